//! The command itself: its first line, how it ends, what it says about mistakes.

mod support;

use std::process::Stdio;

use support::Scratch;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ablo-server"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

#[cfg(unix)]
#[tokio::test]
async fn it_says_where_it_listens_and_ends_when_told() {
    let scratch = Scratch::new();
    let keys = scratch.write("keys.json", support::keys().to_string());
    let seed = scratch.write("seed.json", r#"{"Task":[{"id":"t1"}]}"#);
    let mut server = command();
    server
        .args(["--listen", "127.0.0.1:0", "--log", "trace", "--faults", "--keys"])
        .arg(keys)
        .arg("--seed-file")
        .arg(seed);
    let mut server = server.spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    let address = first.strip_prefix("listening http://127.0.0.1:").unwrap();
    assert_ne!(address.parse::<u16>().unwrap(), 0);
    let id = server.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    let output = server.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(log.contains("seeded 1 rows") && log.contains("for tests only") && !log.contains("ek_test_a"), "{log}");
}

#[tokio::test]
async fn mistakes_are_named_with_a_remedy() {
    let scratch = Scratch::new();
    let bad = scratch.write("bad.json", "{");
    let bad = bad.to_str().unwrap();
    let keys = scratch.write("keys.json", support::keys().to_string());
    let garbage = scratch.write("garbage.db", "this is no database, whatever its name may say about it");
    for (arguments, words) in [
        (vec!["--keys", bad], "--keys"),
        (vec!["--keys", "no-such-file"], "no-such-file"),
        (vec!["--schema", bad], "--schema"),
        (vec!["--db", garbage.to_str().unwrap()], "--db"),
        (vec!["--listen", "nowhere"], "--listen nowhere"),
        (vec!["--keys", keys.to_str().unwrap(), "--seed-file", bad], "--seed-file"),
        (vec!["--static", "no-such-dir"], "--static no-such-dir"),
        (vec!["--wrong"], "--help"),
    ] {
        let output = command().args(&arguments).output().await.unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        assert!(message.contains(words), "{arguments:?}: {message}");
        assert!(output.stdout.is_empty());
    }
    let help = command().arg("--help").output().await.unwrap();
    assert!(help.status.success() && String::from_utf8(help.stdout).unwrap().contains("--seed-organization"));
}
