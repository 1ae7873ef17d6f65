//! A scriptable stand-in for an Ollama server: it answers like a healthy one unless told otherwise, can cut its bytes
//! anywhere, wait, hang or break off, replays recordings of a real server, and remembers every request.
//!
//! It is raw TCP on purpose: an HTTP library would mend exactly the things the tests want broken.

#![expect(
    clippy::indexing_slicing,
    reason = "indexing a JSON value by key adds the key; it never panics on an object"
)]

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The model name that the stand-in serves unless told otherwise.
pub const MODEL: &str = "tiny-chat";
/// The digest that goes with [`MODEL`].
pub const DIGEST: &str = "dc188a4d03b5a61ddd9b3670a7a5c5870cc43405d8056fc68c408b17a6c70f86";

/// No request of ours comes near this; more is answered by closing.
const REQUEST_MAX: usize = 16 * 1024 * 1024;

/// What happens on the wire after a request has been read.
#[derive(Clone, Debug)]
pub enum Step {
    /// Write these bytes and flush them.
    Bytes(Vec<u8>),
    /// Let this much time pass.
    Wait(Duration),
    /// Send nothing more and keep the connection open until the client closes it.
    Hang,
    /// Break the connection off with a reset instead of an orderly end.
    Abort,
}

/// One scripted answer: steps, then an orderly close.
#[derive(Clone, Debug, Default)]
pub struct Script(pub Vec<Step>);

impl Script {
    /// Exactly these bytes, head and framing included.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self(vec![Step::Bytes(bytes.into())])
    }

    /// One of the recordings in `tests/ollama/raw`, by name without the extension.
    ///
    /// # Errors
    ///
    /// When there is no such recording.
    pub fn recording(name: &str) -> std::io::Result<Self> {
        std::fs::read(recordings_dir().join(format!("{name}.http"))).map(Self::raw)
    }

    /// A JSON answer with a length.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json; charset=utf-8", &body.to_string())
    }

    /// Ollama's error shape.
    pub fn error(status: u16, text: &str) -> Self {
        Self::json(status, &json!({ "error": text }))
    }

    /// Any body with a length.
    pub fn text(status: u16, content_type: &str, body: &str) -> Self {
        let mut head = head(status, content_type);
        let _ = write!(head, "Content-Length: {}\r\n\r\n", body.len());
        Self::raw(head + body)
    }

    /// The head of a chunked stream, to be continued with [`Script::chunk`].
    pub fn stream(content_type: &str) -> Self {
        Self::raw(format!(
            "{}Transfer-Encoding: chunked\r\n\r\n",
            head(200, content_type)
        ))
    }

    /// An NDJSON stream, one HTTP chunk a line, properly ended.
    pub fn ndjson<'a>(lines: impl IntoIterator<Item = &'a Value>) -> Self {
        lines
            .into_iter()
            .fold(Self::stream("application/x-ndjson"), Self::line)
            .end()
    }

    /// Adds one HTTP chunk.
    #[must_use]
    pub fn chunk(self, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut bytes = format!("{:x}\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(b"\r\n");
        self.then(Step::Bytes(bytes))
    }

    /// Adds one NDJSON line as its own HTTP chunk.
    #[must_use]
    pub fn line(self, value: &Value) -> Self {
        self.chunk(format!("{value}\n"))
    }

    /// Adds the zero chunk that ends a stream properly.
    #[must_use]
    pub fn end(self) -> Self {
        self.then(Step::Bytes(b"0\r\n\r\n".to_vec()))
    }

    /// Adds a step.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.0.push(step);
        self
    }

    /// Puts a pause before the first byte.
    #[must_use]
    pub fn after(mut self, pause: Duration) -> Self {
        self.0.insert(0, Step::Wait(pause));
        self
    }

    /// All bytes in one piece, as one write would carry them.
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for step in &self.0 {
            if let Step::Bytes(bytes) = step {
                all.extend_from_slice(bytes);
            }
        }
        all
    }

    /// The same bytes, written in two pieces cut at `position`.
    #[must_use]
    pub fn cut_at(&self, position: usize) -> Self {
        let all = self.bytes();
        let (first, second) = all.split_at(position.min(all.len()));
        Self(vec![
            Step::Bytes(first.to_vec()),
            Step::Wait(Duration::from_millis(1)),
            Step::Bytes(second.to_vec()),
        ])
    }

    /// The same bytes in pieces of at most `size`.
    #[must_use]
    pub fn in_pieces(&self, size: usize) -> Self {
        let pieces = self
            .bytes()
            .chunks(size.max(1))
            .map(|c| Step::Bytes(c.to_vec()))
            .collect();
        Self(pieces)
    }

    /// The first `length` bytes only, then an orderly close.
    #[must_use]
    pub fn cut_off(&self, length: usize) -> Self {
        let mut all = self.bytes();
        all.truncate(length);
        Self::raw(all)
    }
}

/// Where the recordings lie.
pub fn recordings_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("ollama/raw")
}

/// A piece of an Ollama chat stream.
pub fn piece(text: &str) -> Value {
    json!({"model": MODEL, "created_at": "2026-11-20T09:21:22.346652463Z",
           "message": {"role": "assistant", "content": text}, "done": false})
}

/// A piece that only thinks.
pub fn thinking(text: &str) -> Value {
    json!({"model": MODEL, "created_at": "2026-11-20T09:21:22.346652463Z",
           "message": {"role": "assistant", "content": "", "thinking": text}, "done": false})
}

/// A piece that asks for a tool.
pub fn tool_call(name: &str, arguments: &Value) -> Value {
    json!({"model": MODEL, "created_at": "2026-11-20T09:21:22.346652463Z",
           "message": {"role": "assistant", "content": "",
                       "tool_calls": [{"id": "call_5xyxy16x",
                                       "function": {"index": 0, "name": name, "arguments": arguments}}]},
           "done": false})
}

/// The last line of an Ollama chat stream.
pub fn last(reason: &str) -> Value {
    json!({"model": MODEL, "created_at": "2026-11-20T09:21:23.346652463Z",
           "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": reason,
           "total_duration": 4_883_583_458_u64, "load_duration": 1_334_875, "prompt_eval_count": 26,
           "prompt_eval_duration": 342_546_000, "eval_count": 282, "eval_duration": 4_535_599_000_u64})
}

/// A whole good answer made of these pieces.
pub fn answer(pieces: &[&str]) -> Script {
    let mut lines: Vec<Value> = pieces.iter().map(|text| piece(text)).collect();
    lines.push(last("stop"));
    Script::ndjson(&lines)
}

/// The same in OpenAI's dialect, as server-sent events.
pub fn openai_answer(pieces: &[&str], finish: &str) -> Script {
    let mut script = Script::stream("text/event-stream");
    for text in pieces {
        script = script.chunk(format!("data: {}\n\n", openai_piece(text)));
    }
    let done = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": MODEL,
                      "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]});
    let usage = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": MODEL, "choices": [],
                       "usage": {"prompt_tokens": 21, "completion_tokens": 3, "total_tokens": 24}});
    script
        .chunk(format!("data: {done}\n\ndata: {usage}\n\n"))
        .chunk("data: [DONE]\n\n")
        .end()
}

/// One piece in OpenAI's dialect, without the event framing.
pub fn openai_piece(text: &str) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": MODEL,
           "choices": [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": null}]})
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Header names in lower case with their values.
    pub headers: Vec<(String, String)>,
    /// The body as it came.
    pub body: Vec<u8>,
    /// Whether the client closed the connection before the script was over.
    pub client_left: bool,
}

impl Recorded {
    /// The body as JSON, or null.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }
}

/// How a stand-in behaves where no script says otherwise.
#[derive(Clone, Debug)]
pub struct Habits {
    /// The name of its one model.
    pub model: String,
    /// That model's digest.
    pub digest: String,
    /// What it answers to every chat, a word at a time.
    pub reply: String,
    /// How long it waits before each word.
    pub delay: Duration,
    /// Where to bind, port 0 for a free one.
    pub listen: SocketAddr,
    /// Whether each request is printed on standard output as one JSON line.
    pub print_requests: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            model: MODEL.to_owned(),
            digest: DIGEST.to_owned(),
            reply: "Keep the wound clean and dry. Ask your care team if it gets red.".to_owned(),
            delay: Duration::ZERO,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            print_requests: false,
        }
    }
}

#[derive(Default)]
struct Desk {
    queued: HashMap<String, VecDeque<Script>>,
    always: HashMap<String, Script>,
    requests: Vec<Recorded>,
    open: usize,
}

struct Shared {
    desk: Mutex<Desk>,
    changed: Notify,
    habits: Habits,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running stand-in; it stops when dropped.
pub struct Ollama {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Ollama {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ollama {
    /// Starts one with the usual habits.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> std::io::Result<Self> {
        Self::with(Habits::default()).await
    }

    /// Starts one with habits of your own.
    ///
    /// # Errors
    ///
    /// When the port can't be bound.
    pub async fn with(habits: Habits) -> std::io::Result<Self> {
        let listener = TcpListener::bind(habits.listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            desk: Mutex::default(),
            changed: Notify::new(),
            habits,
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers the next request for `path` with `script`; several are taken in order.
    pub fn once(&self, path: &str, script: Script) {
        self.shared
            .desk()
            .queued
            .entry(path.to_owned())
            .or_default()
            .push_back(script);
    }

    /// Answers every request for `path` with `script` from now on.
    pub fn always(&self, path: &str, script: Script) {
        self.shared.desk().always.insert(path.to_owned(), script);
    }

    /// Takes [`Ollama::always`] back.
    pub fn usual(&self, path: &str) {
        self.shared.desk().always.remove(path);
    }

    /// The next chat is answered with `script`.
    pub fn chat(&self, script: Script) {
        self.once("/api/chat", script);
    }

    /// Everything asked so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.desk().requests.clone()
    }

    /// The bodies of all chats asked so far.
    pub fn chats(&self) -> Vec<Value> {
        let desk = self.shared.desk();
        desk.requests
            .iter()
            .filter(|r| r.path == "/api/chat")
            .map(Recorded::json)
            .collect()
    }

    /// Waits until the recorded requests satisfy `wanted`; looks again at every change.
    pub async fn until(&self, wanted: impl Fn(&[Recorded]) -> bool) {
        loop {
            let changed = self.shared.changed.notified();
            if wanted(&self.shared.desk().requests) {
                return;
            }
            changed.await;
        }
    }

    /// Waits until no connection is open.
    pub async fn until_idle(&self) {
        loop {
            let changed = self.shared.changed.notified();
            if self.shared.desk().open == 0 {
                return;
            }
            changed.await;
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // The connections live in here, so that dropping the stand-in ends them all at once.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        shared.desk().open += 1;
        connections.spawn(async move {
            let _open = Open(Arc::clone(&shared));
            // A broken connection is what half of the tests are about.
            let _ = serve(stream, &shared).await;
        });
    }
}

struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.desk().open -= 1;
        self.0.changed.notify_waiters();
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let Some(request) = read_request(&mut stream).await? else {
        return Ok(());
    };
    if shared.habits.print_requests {
        use std::io::Write as _;
        let line = json!({"method": request.method, "path": request.path, "body": request.json()});
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush())?;
    }
    let (script, index) = {
        let mut desk = shared.desk();
        let path = request.path.clone();
        let queued = desk.queued.get_mut(&path).and_then(VecDeque::pop_front);
        let script = queued.or_else(|| desk.always.get(&path).cloned());
        let script = script.unwrap_or_else(|| usual(&shared.habits, &request));
        desk.requests.push(request);
        (script, desk.requests.len() - 1)
    };
    shared.changed.notify_waiters();
    let (mut reader, mut writer) = stream.split();
    let mut abort = false;
    let play = async {
        for step in script.0 {
            match step {
                Step::Bytes(bytes) => {
                    writer.write_all(&bytes).await?;
                    writer.flush().await?;
                }
                Step::Wait(pause) => tokio::time::sleep(pause).await,
                Step::Hang => std::future::pending::<()>().await,
                Step::Abort => {
                    abort = true;
                    return Ok(());
                }
            }
        }
        writer.shutdown().await
    };
    let watch = async {
        let mut rest = [0_u8; 256];
        while !matches!(reader.read(&mut rest).await, Ok(0) | Err(_)) {}
    };
    let left = tokio::select! {
        biased;
        played = play => played.is_err(),
        () = watch => true,
    };
    if left {
        if let Some(request) = shared.desk().requests.get_mut(index) {
            request.client_left = true;
        }
        shared.changed.notify_waiters();
    }
    if abort {
        stream.set_zero_linger()?;
    }
    Ok(())
}

async fn read_request(stream: &mut TcpStream) -> std::io::Result<Option<Recorded>> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0_u8; 16 * 1024];
    loop {
        if let Some(request) = parse(&bytes) {
            return Ok(Some(request));
        }
        let read = stream.read(&mut buffer).await?;
        if read == 0 || bytes.len() > REQUEST_MAX {
            return Ok(None);
        }
        bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
    }
}

/// A whole request, or nothing yet. Our clients always send a length, never chunks.
fn parse(bytes: &[u8]) -> Option<Recorded> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(bytes.get(..end)?).into_owned();
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(n, _)| n == "content-length")
        .map_or(Some(0), |(_, v)| v.parse().ok())?;
    let body = bytes.get(end + 4..)?.get(..length)?.to_vec();
    Some(Recorded {
        method,
        path,
        headers,
        body,
        client_left: false,
    })
}

fn head(status: u16, content_type: &str) -> String {
    format!(
        "HTTP/1.1 {status} Stand-in\r\nContent-Type: {content_type}\r\n\
         Date: Fri, 20 Nov 2026 09:21:22 GMT\r\nConnection: close\r\n"
    )
}

/// What a healthy server with one model says.
fn usual(habits: &Habits, request: &Recorded) -> Script {
    let model = habits.model.as_str();
    let details = json!({"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
                         "parameter_size": "122K", "quantization_level": "F16"});
    match (request.method.as_str(), request.path.as_str()) {
        (_, "/") => Script::text(200, "text/plain; charset=utf-8", "Ollama is running"),
        ("GET", "/api/version") => Script::json(200, &json!({"version": "0.33.0"})),
        ("GET", "/api/status") => {
            Script::json(200, &json!({"cloud": {"disabled": true, "source": "env"}}))
        }
        ("GET", "/api/tags") => Script::json(
            200,
            &json!({"models": [{"name": format!("{model}:latest"), "model": format!("{model}:latest"),
                    "modified_at": "2026-11-20T09:21:20.333625924Z", "size": 254_452, "digest": habits.digest,
                    "details": details, "capabilities": ["completion"]}]}),
        ),
        ("GET", "/api/ps") => Script::json(200, &json!({"models": []})),
        ("POST", "/api/show") => Script::json(
            200,
            &json!({"details": details, "model_info": {"general.architecture": "llama",
                    "llama.context_length": 131_072}, "capabilities": ["completion"]}),
        ),
        ("POST", "/api/chat") => {
            let mut script = Script::stream("application/x-ndjson");
            for word in habits.reply.split_inclusive(' ') {
                let mut line = piece(word);
                line["model"] = json!(model);
                script = script.then(Step::Wait(habits.delay)).line(&line);
            }
            let mut line = last("stop");
            line["model"] = json!(model);
            script.then(Step::Wait(habits.delay)).line(&line).end()
        }
        ("POST", "/v1/chat/completions") => openai_answer(
            &habits.reply.split_inclusive(' ').collect::<Vec<_>>(),
            "stop",
        ),
        ("GET", "/v1/models") => Script::json(
            200,
            &json!({"object": "list", "data": [{"id": model, "object": "model"}]}),
        ),
        _ => Script::text(404, "text/plain", "404 page not found"),
    }
}

/// The situations that every client of a model server must survive, by name. Each is the answer to one chat.
pub mod scenario {
    use super::{Script, Step, json, last, piece, thinking, tool_call};
    use std::time::Duration;

    /// A `done_reason` of `length`.
    pub fn length_cut() -> Script {
        Script::ndjson(&[piece("Take "), piece("one"), last("length")])
    }

    /// A last line without any statistics, as for a cached prompt.
    pub fn zero_metrics() -> Script {
        let end = json!({"model": super::MODEL, "message": {"role": "assistant", "content": ""},
                         "done": true, "done_reason": "stop"});
        Script::ndjson(&[piece("fine"), end])
    }

    /// Text in the last line.
    pub fn text_in_last_line() -> Script {
        let mut end = last("stop");
        end["message"]["content"] = json!(" end");
        Script::ndjson(&[piece("the"), end])
    }

    /// A thinking model.
    pub fn thinks() -> Script {
        Script::ndjson(&[
            thinking("The patient Jane said"),
            piece("Rest."),
            last("stop"),
        ])
    }

    /// A model without the thinking field that thinks in its text, the tags cut across pieces.
    pub fn thinks_aloud() -> Script {
        let parts = ["<th", "ink>\n let me", " see </thi", "nk>", "Rest."];
        let mut lines: Vec<_> = parts.iter().map(|text| piece(text)).collect();
        lines.push(last("stop"));
        Script::ndjson(&lines)
    }

    /// A tool call where no tools were offered.
    pub fn uninvited_tool() -> Script {
        let call = tool_call(
            "browser_action",
            &json!({"url": "http://203.0.113.9/?q=secret"}),
        );
        Script::ndjson(&[piece("Rest. "), call, last("stop")])
    }

    /// An error line inside the stream, after some text.
    pub fn error_mid_stream() -> Script {
        let error =
            json!({"error": "an error was encountered while running the model: unexpected EOF"});
        Script::ndjson(&[piece("Take 5"), error])
    }

    /// A proper end of the HTTP stream without `done`.
    pub fn end_without_done() -> Script {
        Script::ndjson(&[piece("Take 5")])
    }

    /// The server stops: not even the zero chunk comes.
    pub fn server_stopped() -> Script {
        Script::stream("application/x-ndjson").line(&piece("Take 5"))
    }

    /// A reset in mid-stream.
    pub fn connection_reset() -> Script {
        server_stopped()
            .then(Step::Wait(Duration::from_millis(20)))
            .then(Step::Abort)
    }

    /// Some text, then silence for ever.
    pub fn idle_hang() -> Script {
        server_stopped().then(Step::Hang)
    }

    /// Silence from the start.
    pub fn silent() -> Script {
        Script(vec![Step::Hang])
    }

    /// A line without end.
    pub fn huge_line(bytes: usize) -> Script {
        let mut script = Script::stream("application/x-ndjson").line(&piece("a"));
        let block = vec![b'x'; 64 * 1024];
        for _ in 0..bytes.div_ceil(block.len()) {
            script = script.chunk(&block);
        }
        script.end()
    }

    /// Two lines in one write and one HTTP chunk.
    pub fn two_lines_at_once() -> Script {
        Script::stream("application/x-ndjson")
            .chunk(format!("{}\n{}\n", piece("one "), piece("two")))
            .line(&last("stop"))
            .end()
    }

    /// Empty lines between the lines, and Windows line ends.
    pub fn odd_lines() -> Script {
        Script::stream("application/x-ndjson")
            .chunk(format!("\n{}\r\n\r\n\n{}\r\n", piece("one "), piece("two")))
            .line(&last("stop"))
            .end()
    }

    /// A web page with status 200.
    pub fn web_page() -> Script {
        Script::text(
            200,
            "text/html",
            "<html><body>Welcome to the hotel network</body></html>",
        )
    }

    /// A piece that admits it was made elsewhere.
    pub fn remote_in_piece() -> Script {
        let mut line = piece("Take 5");
        line["remote_host"] = json!("https://ollama.com:443");
        line["remote_model"] = json!("gpt-oss:120b");
        Script::ndjson(&[line, last("stop")])
    }

    /// `content` and `tool_calls` null.
    pub fn nulls() -> Script {
        let line = json!({"model": super::MODEL, "message": {"role": "assistant", "content": null, "tool_calls": null},
                          "done": false});
        Script::ndjson(&[line, piece("Rest."), last("stop")])
    }

    /// A redirect to another host.
    pub fn redirect(to: &str) -> Script {
        Script::raw(format!(
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ))
    }

    /// 403 with an empty body: the Host header rule.
    pub fn host_refused() -> Script {
        Script::raw("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    }

    /// The queue is full.
    pub fn busy() -> Script {
        Script::error(
            503,
            "server busy, please try again.  maximum pending requests exceeded",
        )
    }

    /// The child process died before the first piece.
    pub fn runner_died() -> Script {
        Script::error(
            500,
            "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, \
             check ollama server logs for details",
        )
    }
}
