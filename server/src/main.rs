//! The command `ablo-server`: reads options, serves until it is told to stop.

use std::io::Write;
use std::process::ExitCode;

use ablo_server::args::{Args, Asked};
use ablo_server::server::Server;

/// A mistake in options or files.
const EXIT_USAGE: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let args = match Args::parse(std::env::args_os().skip(1)) {
        Ok(Asked::Serve(args)) => args,
        Ok(Asked::Print(text)) => {
            print(&text);
            return ExitCode::SUCCESS;
        }
        Err(why) => return refuse(&why),
    };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(args.log).with_ansi(false).init();
    let server = match Server::start(args).await {
        Ok(server) => server,
        Err(why) => return refuse(&why),
    };
    print(&format!("listening http://{}\n", server.address()));
    let failed = tokio::select! {
        () = interrupted() => false,
        () = server.failed() => true,
    };
    server.stop().await;
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Ctrl-C, or what a process manager sends.
async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    // Without a handler the process ends by the signal itself.
    let _ = tokio::signal::ctrl_c().await;
}

fn refuse(why: &str) -> ExitCode {
    // Nothing is left to tell when even standard error is closed.
    let _ = writeln!(std::io::stderr(), "ablo-server: {why}");
    ExitCode::from(EXIT_USAGE)
}

fn print(text: &str) {
    let mut out = std::io::stdout();
    // A closed standard output is no reason not to serve.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
