//! What a server that is broken or hostile may send. Against it only this is promised: no panic, and no unsent write is
//! lost.

use ablo_wasm::core::id::SyncId;
use ablo_wasm::core::wire::ServerFrame;

use crate::dice::Dice;

/// A frame in place of a true one. Answers to commits stay true: whoever lies there says that a write is safe.
pub(crate) fn instead_of(text: &str, head: u64, dice: &mut Dice) -> String {
    if text.starts_with(r#"{"type":"mutation_result""#) {
        return text.to_owned();
    }
    // A catch-up that is never answered at all is another matter: everything waits for it.
    let lowest = if text.starts_with(r#"{"type":"sync_response""#) { 4 } else { 0 };
    match dice.range(lowest, 11) {
        0 => cut(text, dice),
        1 => scramble(text, dice),
        2 => dice
            .pick(&[
                "",
                "null",
                "[]",
                "{",
                "{}",
                "\u{0}",
                r#"{"type":1}"#,
                r#"{"type":"delta"}"#,
                r#"{"type":"delta","payload":[]}"#,
                r#"{"type":"delta","payload":{"deltas":7}}"#,
                r#"{"type":"sync_response"}"#,
                r#"{"type":"sync_response","payload":{"deltas":[null,1,"x",[],{}],"currentSyncId":"7"}}"#,
                r#"{"type":"subscription_ack","payload":{"success":true,"syncGroups":[1,null]}}"#,
                r#"{"type":"mutation_result","payload":{"success":true}}"#,
                r#"{"type":"mutation_result","payload":{"clientTxId":"never","success":true,"lastSyncId":-1}}"#,
            ])
            .to_owned(),
        3 => nested(),
        4 | 5 => {
            let lie = match dice.below(4) {
                0 => 0,
                1 => head.saturating_sub(dice.below(20)),
                2 => head + dice.range(1, 50),
                _ => 9_007_199_254_740_991,
            };
            ServerFrame::sync_response::<&str>(&[], SyncId(lie))
        }
        6 => text.replacen("\"id\":", "\"id\":-", 1),
        7 => text.replacen("\"actionType\":\"", "\"actionType\":\"X", 1),
        8 => text.replacen("\"data\":\"", "\"data\":\"[", 1),
        9 => text.replacen("\"modelId\":\"", "\"modelId\":\"\\ud800", 1),
        10 => text.replacen("\"modelName\":\"", "\"modelName\":\"no", 1),
        _ => reversed(text),
    }
}

fn cut(text: &str, dice: &mut Dice) -> String {
    let mut end = dice.index(text.len().max(1));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

fn scramble(text: &str, dice: &mut Dice) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for _ in 0..4 {
        let place = dice.index(letters.len().max(1));
        if let Some(letter) = letters.get_mut(place) {
            *letter = dice.pick(&['"', '{', '}', '[', ']', ',', ':', '\\', '0', 'e', '-', '\u{1f600}', '\u{0}']);
        }
    }
    letters.into_iter().collect()
}

fn nested() -> String {
    let depth = 2_000;
    format!(r#"{{"type":"delta","payload":{}{}}}"#, "[".repeat(depth), "]".repeat(depth))
}

/// The deltas of a frame, last first.
fn reversed(text: &str) -> String {
    let Ok(ServerFrame::Deltas(deltas)) = ServerFrame::parse(text) else { return text.to_owned() };
    let texts: Vec<&str> = deltas.iter().rev().map(|delta| delta.raw).collect();
    ServerFrame::deltas(&texts)
}
