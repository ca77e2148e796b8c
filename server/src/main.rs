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
    // The handlers stand before anybody is told that the server does: a signal sent on that word must drain it.
    let (mut interrupt, mut terminate) = match signals() {
        Ok(signals) => signals,
        Err(why) => return refuse(&format!("the signals that stop it cannot be watched: {why}")),
    };
    print(&format!("listening http://{}\n", server.address()));
    let failed = tokio::select! {
        _ = interrupt.recv() => false,
        _ = terminate.recv() => false,
        () = server.failed() => true,
    };
    server.stop().await;
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Ctrl-C, and what a process manager sends.
#[cfg(unix)]
fn signals() -> std::io::Result<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)> {
    use tokio::signal::unix::{SignalKind, signal};
    Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
}

/// Ctrl-C, and the end of the console.
#[cfg(windows)]
fn signals() -> std::io::Result<(tokio::signal::windows::CtrlC, tokio::signal::windows::CtrlClose)> {
    Ok((tokio::signal::windows::ctrl_c()?, tokio::signal::windows::ctrl_close()?))
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
