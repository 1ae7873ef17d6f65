//! Every recorded answer of a real Ollama server, replayed as the answer to a chat: whole, byte by byte, and broken off.

use wardline_ai::model::ModelError;
use wardline_e2e::ollama::{Ollama as StandIn, Script, recordings_dir};

use crate::support::{Heard, hear, ollama};

fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(recordings_dir())
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    assert!(names.len() > 60, "{names:?}");
    names
}

/// What a chat client must make of each recording: whether the answer is cut, or the kind of error.
fn expected(name: &str) -> Result<bool, &'static str> {
    match name.split('-').next().unwrap_or_default() {
        "10" | "11" | "16" | "17" | "18" | "36" | "43" | "45" | "81" | "82" | "83" | "84"
        | "86" | "87" | "88" | "89" | "90" => Ok(false),
        // A full window, or the limit that the request set; and loading and unloading a model, which ends "done" but is
        // no answer.
        "12" | "13" | "14" | "44" | "46" | "92" | "95" => Ok(true),
        "07" | "20" | "55" | "65" | "68" | "75" => Err("no_such_model"),
        "37" | "40" | "41" | "42" => Err("too_long"),
        "30" | "31" => Err("host_refused"),
        "97" => Err("busy"),
        "27" => Err("failed"),
        "15" | "19" | "21" | "22" | "23" | "24" | "25" | "26" | "28" | "29" | "32" | "33"
        | "34" | "35" | "57" | "58" | "60" | "85" => Err("refused"),
        // A good status whose body never comes, and none at all.
        "02" => Err("broken"),
        "70" => Err("truncated"),
        // Everything else is no chat: lists, embeddings, completions, made models.
        _ => Err("not_an_answer"),
    }
}

async fn replay(stand_in: &StandIn, script: Script) -> Heard {
    // The child's failure is tried once more, so it must be there twice.
    stand_in.always("/api/chat", script);
    hear(&ollama(stand_in).await).await
}

#[tokio::test]
async fn each_recording_is_understood() {
    let stand_in = StandIn::start().await.unwrap();
    let mut wrong = Vec::new();
    for name in names() {
        let heard = replay(&stand_in, Script::recording(&name).unwrap()).await;
        let got = match &heard.outcome {
            Ok(end) => Ok(end.cut),
            Err(error) => Err(error.kind()),
        };
        if got != expected(&name) {
            wrong.push((name, got));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn the_words_are_exactly_those_of_the_model() {
    let stand_in = StandIn::start().await.unwrap();
    let heard = replay(&stand_in, Script::recording("10-chat-stream").unwrap()).await;
    let whole = replay(&stand_in, Script::recording("11-chat-nostream").unwrap()).await;
    assert!(
        heard.text.starts_with("Hello from a tiny model"),
        "{}",
        heard.text
    );
    assert!(
        heard.text.contains('ü') && !heard.text.contains('\u{fffd}'),
        "{}",
        heard.text
    );
    assert_eq!(heard.text, whole.text);
    for name in [
        "81-think-default",
        "82-think-true",
        "83-think-false",
        "84-think-level",
    ] {
        let heard = replay(&stand_in, Script::recording(name).unwrap()).await;
        assert!(
            !heard.text.contains("think") && !heard.text.contains("let me see"),
            "{name}: {}",
            heard.text
        );
    }
    for name in ["86-tool-call-stream", "87-tool-call-nostream"] {
        let heard = replay(&stand_in, Script::recording(name).unwrap()).await;
        assert!(
            heard.text.is_empty() && heard.end().tools_ignored,
            "{name}: {heard:?}"
        );
    }
}

#[tokio::test]
async fn small_packets_change_nothing() {
    let stand_in = StandIn::start().await.unwrap();
    for name in names() {
        let script = Script::recording(&name).unwrap();
        let whole = replay(&stand_in, script.clone()).await;
        for size in [1, 5] {
            let heard = replay(&stand_in, script.in_pieces(size)).await;
            assert_eq!(heard.text, whole.text, "{name} in pieces of {size}");
            assert_eq!(
                heard.outcome.is_ok(),
                whole.outcome.is_ok(),
                "{name} in pieces of {size}"
            );
        }
    }
}

#[tokio::test]
async fn a_broken_off_stream_is_never_whole() {
    let stand_in = StandIn::start().await.unwrap();
    for name in ["10-chat-stream", "12-chat-num-predict", "81-think-default"] {
        let script = Script::recording(name).unwrap();
        let bytes = script.bytes();
        // The last line begins after the last chunk size; before its end nothing is whole.
        let end = bytes
            .windows(13)
            .rposition(|w| w == b"\"done\":true,\"")
            .unwrap();
        for length in (0..end).step_by(41) {
            let heard = replay(&stand_in, script.cut_off(length)).await;
            assert!(
                heard.outcome.is_err(),
                "{name} after {length} of {} bytes",
                bytes.len()
            );
        }
    }
}

#[tokio::test]
async fn the_service_routes_of_a_real_server_pass_the_self_test() {
    use wardline_ai::model::Model;
    let stand_in = StandIn::start().await.unwrap();
    stand_in.always("/api/version", Script::recording("03-version").unwrap());
    stand_in.always("/api/tags", Script::recording("04-tags").unwrap());
    stand_in.always("/api/ps", Script::recording("62-ps-loaded").unwrap());
    let checked = ollama(&stand_in).await.check().await.unwrap();
    assert_eq!(checked.identity.digest, wardline_e2e::ollama::DIGEST);
    assert_eq!(
        (checked.identity.server.as_str(), checked.context_limit),
        ("0.33.0-src", Some(1024))
    );
    stand_in.always("/api/show", Script::recording("07-show-unknown").unwrap());
    assert!(matches!(
        ollama(&stand_in).await.check().await,
        Err(ModelError::NoSuchModel)
    ));
}
