//! The rules for a client of Ollama, each against a server that breaks it.

use std::time::Duration;

use futures_util::StreamExt;
use wardline_ai::model::{Model, ModelError, Timeouts};
use wardline_e2e::ollama::{Ollama as StandIn, Script, Step, answer, last, piece, scenario};

use crate::support::{demands, hear, ollama, ollama_with, prompt, timeouts};

#[tokio::test]
async fn a_good_answer_comes_in_pieces() {
    let stand_in = StandIn::start().await.unwrap();
    stand_in.chat(answer(&["Keep ", "it ", "dry."]));
    let heard = hear(&ollama(&stand_in).await).await;
    assert_eq!((heard.text.as_str(), heard.pieces), ("Keep it dry.", 3));
    let end = heard.end();
    assert!(!end.cut);
    assert_eq!((end.prompt_tokens, end.reply_tokens), (Some(26), Some(282)));
}

#[tokio::test]
async fn the_request_says_all_that_must_be_said() {
    let stand_in = StandIn::start().await.unwrap();
    hear(&ollama(&stand_in).await).await;
    let chats = stand_in.chats();
    assert_eq!(chats.len(), 1);
    let chat = &chats[0];
    assert_eq!(chat["stream"], true);
    assert_eq!(chat["think"], false);
    assert_eq!(chat["truncate"], false);
    assert_eq!(chat["shift"], false);
    assert_eq!(chat["keep_alive"], "10m");
    assert_eq!(chat["options"]["num_ctx"], 4096);
    assert_eq!(chat["options"]["num_predict"], 512);
    assert_eq!(chat["options"]["temperature"], 0);
    assert_eq!(chat["messages"][0]["role"], "system");
    assert_eq!(chat["messages"][1]["role"], "user");
    assert!(chat.get("tools").is_none());
    let request = stand_in
        .requests()
        .into_iter()
        .find(|r| r.path == "/api/chat")
        .unwrap();
    assert!(request.header("authorization").is_none() && request.header("referer").is_none());
}

// R1: silence, at each of its three places.

#[tokio::test]
async fn silence_before_the_first_piece_has_its_own_limit() {
    let stand_in = StandIn::start().await.unwrap();
    stand_in.chat(scenario::silent());
    let short = Timeouts {
        first_piece: Duration::from_millis(200),
        ..timeouts()
    };
    let heard = hear(&ollama_with(&stand_in, demands(), short).await).await;
    assert!(matches!(heard.error(), ModelError::Silent(_)), "{heard:?}");
    // Headers without a piece are silence too.
    stand_in.chat(Script::stream("application/x-ndjson").then(Step::Hang));
    let heard = hear(&ollama_with(&stand_in, demands(), short).await).await;
    assert!(matches!(heard.error(), ModelError::Silent(_)), "{heard:?}");
}

#[tokio::test]
async fn a_slow_first_piece_is_no_trouble() {
    let stand_in = StandIn::start().await.unwrap();
    stand_in.chat(answer(&["Rest."]).after(Duration::from_millis(600)));
    let limits = Timeouts {
        between_pieces: Duration::from_millis(200),
        ..timeouts()
    };
    let heard = hear(&ollama_with(&stand_in, demands(), limits).await).await;
    assert_eq!(heard.text, "Rest.");
    assert!(heard.outcome.is_ok(), "{heard:?}");
}

#[tokio::test]
async fn silence_between_pieces_ends_the_answer_with_what_came() {
    let stand_in = StandIn::start().await.unwrap();
    stand_in.chat(scenario::idle_hang());
    let limits = Timeouts {
        between_pieces: Duration::from_millis(200),
        ..timeouts()
    };
    let heard = hear(&ollama_with(&stand_in, demands(), limits).await).await;
    assert_eq!(heard.text, "Take 5");
    assert!(matches!(heard.error(), ModelError::Stalled(_)), "{heard:?}");
}

#[tokio::test]
async fn dribbled_bytes_are_silence() {
    let stand_in = StandIn::start().await.unwrap();
    let mut script = Script::stream("application/x-ndjson").line(&piece("Take 5"));
    for _ in 0..500 {
        script = script
            .chunk(" ")
            .then(Step::Wait(Duration::from_millis(20)));
    }
    stand_in.chat(script.then(Step::Hang));
    let limits = Timeouts {
        between_pieces: Duration::from_millis(300),
        ..timeouts()
    };
    let heard = hear(&ollama_with(&stand_in, demands(), limits).await).await;
    assert!(matches!(heard.error(), ModelError::Stalled(_)), "{heard:?}");
}

#[tokio::test]
async fn an_endless_answer_ends_at_the_total_limit() {
    let stand_in = StandIn::start().await.unwrap();
    let mut script = Script::stream("application/x-ndjson");
    for _ in 0..2000 {
        script = script
            .line(&piece("word "))
            .then(Step::Wait(Duration::from_millis(5)));
    }
    stand_in.chat(script.then(Step::Hang));
    let limits = Timeouts {
        whole_answer: Duration::from_millis(500),
        ..timeouts()
    };
    let heard = hear(&ollama_with(&stand_in, demands(), limits).await).await;
    assert!(heard.text.starts_with("word word"));
    assert!(
        matches!(heard.error(), ModelError::TookTooLong(_)),
        "{heard:?}"
    );
}

// R2: lines, however they arrive.

#[tokio::test]
async fn a_cut_at_any_byte_changes_nothing() {
    let stand_in = StandIn::start().await.unwrap();
    let model = ollama(&stand_in).await;
    let texts = ["café 5µg ", "日本語 ", "👩\u{200d}⚕️", "!"];
    let whole = answer(&texts);
    for position in 0..=whole.bytes().len() {
        stand_in.chat(whole.cut_at(position));
        let heard = hear(&model).await;
        assert_eq!(heard.text, texts.concat(), "cut at {position}");
        assert!(heard.outcome.is_ok(), "cut at {position}: {heard:?}");
    }
    for size in [1, 2, 3, 7, 64] {
        stand_in.chat(whole.in_pieces(size));
        assert_eq!(hear(&model).await.text, texts.concat(), "pieces of {size}");
    }
}

#[tokio::test]
async fn odd_lines_are_read_and_huge_ones_refused() {
    let stand_in = StandIn::start().await.unwrap();
    let model = ollama(&stand_in).await;
    for script in [scenario::two_lines_at_once(), scenario::odd_lines()] {
        stand_in.chat(script);
        let heard = hear(&model).await;
        assert_eq!(heard.text, "one two");
        assert!(heard.outcome.is_ok());
    }
    stand_in.chat(scenario::huge_line(3 * 1024 * 1024));
    let heard = hear(&model).await;
    assert!(
        matches!(heard.error(), ModelError::LineTooLong { .. }),
        "{heard:?}"
    );
    stand_in.chat(scenario::nulls());
    assert_eq!(hear(&model).await.text, "Rest.");
}

#[tokio::test]
async fn what_is_no_answer_is_an_error() {
    let stand_in = StandIn::start().await.unwrap();
    let model = ollama(&stand_in).await;
    let scripts = [
        scenario::web_page(),
        Script::text(200, "application/json", "[]"),
        Script::text(200, "application/json", "{\"hello\":1}\n"),
        Script::text(200, "application/x-ndjson", "{\"message\":\"text\"}\n"),
        Script::raw(
            *b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n\xff\xfe{}\n",
        ),
        Script::ndjson(&[piece("a"), serde_json::json!({"model": "x"})]),
    ];
    for script in scripts {
        stand_in.chat(script.clone());
        let heard = hear(&model).await;
        assert!(
            matches!(heard.error(), ModelError::NotAnAnswer),
            "{script:?}: {heard:?}"
        );
    }
    stand_in.chat(Script::raw(*b"garbage that is no HTTP at all\r\n\r\n"));
    assert!(hear(&model).await.outcome.is_err());
}

// R3: without `done` there is no answer.

#[tokio::test]
async fn an_end_without_done_is_a_failure() {
    let stand_in = StandIn::start().await.unwrap();
    let model = ollama(&stand_in).await;
    for script in [
        scenario::end_without_done(),
        scenario::server_stopped(),
        scenario::connection_reset(),
    ] {
        stand_in.chat(script.clone());
        let heard = hear(&model).await;
        assert_eq!(heard.text, "Take 5");
        assert!(
            matches!(heard.error(), ModelError::Truncated | ModelError::Broken),
            "{script:?}: {heard:?}"
        );
    }
    // Every true beginning of a good stream is a failure, whatever it ends in.
    let whole = answer(&["Take ", "5"]);
    let last_line = whole.bytes().len() - 5 - 2 - 1;
    for length in (0..last_line).step_by(3) {
        stand_in.chat(whole.cut_off(length));
        assert!(
            hear(&model).await.outcome.is_err(),
            "{length} bytes of {last_line}"
        );
    }
}

#[tokio::test]
async fn an_error_line_inside_the_stream_is_an_error() {
    let stand_in = StandIn::start().await.unwrap();
    stand_in.chat(scenario::error_mid_stream());
    let heard = hear(&ollama(&stand_in).await).await;
    assert_eq!(heard.text, "Take 5");
    assert!(
        matches!(heard.error(), ModelError::FailedMidStream(_)),
        "{heard:?}"
    );
    assert!(heard.error().to_string().contains("unexpected EOF"));
}

// R4: a cut answer is told from a whole one.

#[tokio::test]
async fn a_cut_answer_says_so() {
    let stand_in = StandIn::start().await.unwrap();
    let model = ollama(&stand_in).await;
    stand_in.chat(scenario::length_cut());
    assert!(hear(&model).await.end().cut);
    for reason in ["load", "unload", "", "something new"] {
        stand_in.chat(Script::ndjson(&[piece("x"), last(reason)]));
        assert!(hear(&model).await.end().cut, "{reason}");
    }
    stand_in.chat(scenario::zero_metrics());
    let heard = hear(&model).await;
    assert!(!heard.end().cut && heard.end().prompt_tokens.is_none());
    stand_in.chat(scenario::text_in_last_line());
    assert_eq!(hear(&model).await.text, "the end");
}

// R5: dropping the stream stops the work.

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    let stand_in = StandIn::start().await.unwrap();
    let model = ollama(&stand_in).await;
    stand_in.chat(scenario::idle_hang());
    let prompt = prompt("x");
    let mut answering = model.answer(&prompt).await.unwrap();
    assert!(answering.pieces.next().await.is_some());
    drop(answering);
    stand_in
        .until(|requests| {
            requests
                .iter()
                .any(|r| r.path == "/api/chat" && r.client_left)
        })
        .await;
    // Giving up before the first piece closes it as well.
    stand_in.chat(scenario::silent());
    {
        let waiting = model.answer(&prompt);
        tokio::select! {
            _ = waiting => panic!("there was no answer to be had"),
            () = stand_in.until(|requests| requests.iter().filter(|r| r.path == "/api/chat").count() == 2) => {}
        }
    }
    stand_in
        .until(|requests| {
            requests
                .iter()
                .filter(|r| r.path == "/api/chat" && r.client_left)
                .count()
                == 2
        })
        .await;
    stand_in.until_idle().await;
}

// R6: what is tried again, and how often.

#[tokio::test]
async fn busy_is_tried_again_a_few_times() {
    let stand_in = StandIn::start().await.unwrap();
    let model = ollama(&stand_in).await;
    stand_in.chat(scenario::busy());
    stand_in.chat(scenario::busy());
    stand_in.chat(answer(&["Rest."]));
    assert_eq!(hear(&model).await.text, "Rest.");
    assert_eq!(stand_in.chats().len(), 3);
    stand_in.always("/api/chat", scenario::busy());
    let heard = hear(&model).await;
    assert!(matches!(heard.error(), ModelError::Busy));
    assert_eq!(stand_in.chats().len(), 6);
}

#[tokio::test]
async fn a_failure_is_tried_again_once_and_never_after_text() {
    let stand_in = StandIn::start().await.unwrap();
    let model = ollama(&stand_in).await;
    stand_in.chat(scenario::runner_died());
    stand_in.chat(answer(&["Rest."]));
    assert_eq!(hear(&model).await.text, "Rest.");
    stand_in.always("/api/chat", scenario::runner_died());
    let heard = hear(&model).await;
    assert!(matches!(
        heard.error(),
        ModelError::Failed { status: 500, .. }
    ));
    assert!(
        heard
            .error()
            .to_string()
            .contains("model runner has unexpectedly stopped")
    );
    assert_eq!(stand_in.chats().len(), 4);
    stand_in.usual("/api/chat");
    stand_in.chat(scenario::error_mid_stream());
    assert!(hear(&model).await.outcome.is_err());
    assert_eq!(stand_in.chats().len(), 5);
}

#[tokio::test]
async fn a_refusal_is_not_tried_again_and_says_what_it_is() {
    let stand_in = StandIn::start().await.unwrap();
    let model = ollama(&stand_in).await;
    let cases: [(Script, &str); 16] = [
        (Script::error(400, "missing request body"), "refused"),
        (Script::error(400, "model is required"), "refused"),
        (Script::error(400, "invalid model name"), "refused"),
        (
            Script::error(400, "\"gemma:2b\" does not support thinking"),
            "refused",
        ),
        (
            Script::error(400, "\"nomic-embed-text\" does not support chat"),
            "refused",
        ),
        (
            Script::error(
                400,
                "the prompt is longer than the context length currently available to the model",
            ),
            "too_long",
        ),
        (
            Script::json(
                401,
                &serde_json::json!({"error": "unauthorized", "signin_url": "https://x"}),
            ),
            "refused",
        ),
        (
            Script::error(403, "ollama cloud is disabled: remote model is unavailable"),
            "refused",
        ),
        (scenario::host_refused(), "host_refused"),
        (
            Script::error(404, "model 'tiny-chat' not found"),
            "no_such_model",
        ),
        (
            Script::error(404, "model \"tiny-chat\" not found, try pulling it first"),
            "no_such_model",
        ),
        (
            Script::text(404, "text/plain", "404 page not found"),
            "refused",
        ),
        (Script::error(499, "request canceled"), "refused"),
        (
            Script::error(500, "option \"num_ctx\" must be of type integer"),
            "refused",
        ),
        (
            Script::text(405, "text/plain", "405 method not allowed"),
            "refused",
        ),
        (scenario::redirect("http://203.0.113.9/api/chat"), "refused"),
    ];
    for (number, (script, kind)) in cases.into_iter().enumerate() {
        stand_in.chat(script);
        let heard = hear(&model).await;
        assert_eq!(heard.error().kind(), kind, "{number}: {heard:?}");
        assert_eq!(stand_in.chats().len(), number + 1);
    }
}

#[tokio::test]
async fn nothing_listening_is_tried_again_and_then_said() {
    let stand_in = StandIn::start().await.unwrap();
    let model = ollama(&stand_in).await;
    drop(stand_in);
    let heard = hear(&model).await;
    assert!(
        matches!(heard.error(), ModelError::Unreachable),
        "{heard:?}"
    );
}

// R7: what people said never gets into an error.

#[tokio::test]
async fn a_server_that_echoes_the_question_is_not_repeated() {
    let stand_in = StandIn::start().await.unwrap();
    let model = ollama(&stand_in).await;
    let echo = "json: cannot unmarshal \"How do I care for a wound? My name is Jane Doe\"";
    for script in [
        Script::error(400, echo),
        Script::error(418, echo),
        Script::error(501, echo),
        Script::ndjson(&[serde_json::json!({"error": echo})]),
        Script::ndjson(&[serde_json::json!({"error": {"message": echo}})]),
    ] {
        stand_in.chat(script);
        let heard = hear(&model).await;
        let shown = format!("{} {:?}", heard.error(), heard.error());
        assert!(
            !shown.contains("Jane") && !shown.contains("wound"),
            "{shown}"
        );
    }
}

// R9: thinking and terminal commands are taken out.

#[tokio::test]
async fn thinking_is_never_shown() {
    let stand_in = StandIn::start().await.unwrap();
    let model = ollama(&stand_in).await;
    for script in [scenario::thinks(), scenario::thinks_aloud()] {
        stand_in.chat(script);
        let heard = hear(&model).await;
        assert_eq!(heard.text, "Rest.");
    }
}

#[tokio::test]
async fn a_long_thought_is_a_sign_of_life() {
    let stand_in = StandIn::start().await.unwrap();
    let mut script = Script::stream("application/x-ndjson");
    for _ in 0..60 {
        script = script
            .line(&wardline_e2e::ollama::thinking("hm "))
            .then(Step::Wait(Duration::from_millis(20)));
    }
    stand_in.chat(script.line(&piece("Rest.")).line(&last("stop")).end());
    let limits = Timeouts {
        first_piece: Duration::from_millis(600),
        between_pieces: Duration::from_millis(600),
        ..timeouts()
    };
    let heard = hear(&ollama_with(&stand_in, demands(), limits).await).await;
    assert_eq!(heard.text, "Rest.", "{heard:?}");
    // Ten thousand thoughts in one packet are no trouble either.
    let mut lines = vec![wardline_e2e::ollama::thinking("hm "); 10_000];
    lines.extend([piece("Rest."), last("stop")]);
    stand_in.chat(Script::raw(Script::ndjson(&lines).bytes()));
    assert_eq!(hear(&ollama(&stand_in).await).await.text, "Rest.");
}

#[tokio::test]
async fn a_call_for_a_tool_does_nothing() {
    let stand_in = StandIn::start().await.unwrap();
    stand_in.chat(scenario::uninvited_tool());
    let heard = hear(&ollama(&stand_in).await).await;
    assert_eq!(heard.text, "Rest. ");
    assert!(heard.end().tools_ignored);
    assert!(
        stand_in
            .requests()
            .iter()
            .all(|request| request.path.starts_with("/api/"))
    );
}

#[tokio::test]
async fn two_answers_at_once_do_not_mix() {
    let stand_in = StandIn::start().await.unwrap();
    let model = ollama(&stand_in).await;
    let texts: Vec<String> = (0..2).map(|n| format!("answer{n} ").repeat(50)).collect();
    for text in &texts {
        let mut script = Script::stream("application/x-ndjson");
        for word in text.split_inclusive(' ') {
            script = script
                .line(&piece(word))
                .then(Step::Wait(Duration::from_millis(1)));
        }
        stand_in.chat(script.line(&last("stop")).end());
    }
    let (one, two) = tokio::join!(hear(&model), hear(&model));
    let mut heard = [one.text, two.text];
    heard.sort();
    assert_eq!(heard.as_slice(), texts.as_slice());
}

/// The same expectations of a real server: `WARDLINE_TEST_OLLAMA_URL` and `WARDLINE_TEST_OLLAMA_MODEL`.
#[tokio::test]
#[ignore = "needs a real Ollama"]
#[expect(
    clippy::disallowed_methods,
    reason = "a test that is asked for by hand is told where the server is"
)]
async fn a_real_ollama_behaves_like_the_stand_in() {
    let url = std::env::var("WARDLINE_TEST_OLLAMA_URL").unwrap();
    let name = std::env::var("WARDLINE_TEST_OLLAMA_MODEL").unwrap();
    let server = crate::support::server(&url, Timeouts::default()).await;
    let model = wardline_ai::model::ollama::Ollama::new(
        server,
        wardline_ai::model::ollama::Demands {
            model: name,
            ..demands()
        },
    );
    let checked = model.check().await.unwrap();
    assert_eq!(checked.identity.digest.len(), 64);
    let heard = hear(&model).await;
    assert!(!heard.text.is_empty() && heard.outcome.is_ok(), "{heard:?}");
}
