//! What every model server behind HTTP has in common: no proxy, no redirects, bounded bodies, retries, and a stream of
//! lines with its time limits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout_at};

use super::lines::{LINE_MAX, Lines};
use super::{End, Jitter, ModelError, Piece, Pieces, ServerText, Timeouts};
use crate::boundary::{InsideUrl, OutsideBoundary};
use crate::model::clean::Cleaner;

/// Longest body of a question that isn't a stream. `/api/show` lists every tensor and the licence.
const BODY_MAX: usize = 8 * 1024 * 1024;
/// Longest error body read; errors are short.
const ERROR_MAX: usize = 64 * 1024;

/// How often what is repeated.
#[derive(Clone)]
pub struct Retries {
    /// More tries after "busy" or "nothing listens".
    pub busy: u32,
    /// The first pause; it doubles from try to try.
    pub pause: Duration,
    /// Spreads the pauses.
    pub jitter: Jitter,
}

/// Why an HTTP client could not be made.
#[derive(Debug, Error)]
pub enum ClientFault {
    /// Encrypted, but no word on whom to believe.
    #[error(
        "model.url is https: name the certificate authority of the model server in model.ca_file"
    )]
    NoAuthority,
    /// The file holds no certificates.
    #[error("model.ca_file holds no PEM certificate")]
    BadAuthority,
    /// The HTTP library refuses.
    #[error("the HTTP client could not be made: {0}")]
    Http(#[from] reqwest::Error),
    /// The TLS library refuses.
    #[error("the TLS client could not be made: {0}")]
    Tls(#[from] rustls::Error),
}

/// A client of one server inside the boundary.
#[derive(Clone)]
pub struct Server {
    pub(super) base: InsideUrl,
    client: Client,
    key: Option<Arc<str>>,
    pub(super) timeouts: Timeouts,
    retries: Retries,
}

impl Server {
    /// Makes a client that talks to that server and to nothing else.
    ///
    /// # Errors
    ///
    /// [`ClientFault`], when the certificates of an `https` server are missing or unusable.
    pub fn new(
        base: InsideUrl,
        ca_pem: Option<&[u8]>,
        key: Option<Arc<str>>,
        timeouts: Timeouts,
        retries: Retries,
    ) -> Result<Self, ClientFault> {
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .http1_only()
            .connect_timeout(timeouts.connect)
            .dns_resolver(base.resolver())
            .tls_backend_preconfigured(tls(&base, ca_pem)?)
            .build()?;
        Ok(Self {
            base,
            client,
            key,
            timeouts,
            retries,
        })
    }

    /// The same client for a sibling path.
    #[must_use]
    pub fn below(&self, base: InsideUrl) -> Self {
        Self {
            base,
            ..self.clone()
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, self.base.at(path));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// One small question with a JSON answer. A status other than 2xx is an error.
    ///
    /// # Errors
    ///
    /// [`ModelError`], sorted by whose fault it is.
    pub async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, ModelError> {
        self.small(self.request(Method::GET, path)).await
    }

    /// The same with a JSON body.
    ///
    /// # Errors
    ///
    /// As [`Server::ask`].
    pub async fn ask_with<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ModelError> {
        self.small(self.request(Method::POST, path).json(body))
            .await
    }

    async fn small<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ModelError> {
        let limit = self.timeouts.check;
        let deadline = Instant::now() + limit;
        let response = timeout_at(deadline, request.send())
            .await
            .map_err(|_| ModelError::Silent(limit))?
            .map_err(|error| transport(&error))?;
        let response = good(response, deadline).await?;
        let body = timeout_at(deadline, read(response, BODY_MAX))
            .await
            .map_err(|_| ModelError::Silent(limit))??;
        serde_json::from_slice(&body).map_err(|_| ModelError::NotAnAnswer)
    }

    /// Asks for a stream: tries again while the server is busy or away, at most once after a failure, and never once
    /// anything has arrived.
    ///
    /// # Errors
    ///
    /// [`ModelError`], when no stream begins. What goes wrong later is an item of the stream.
    pub async fn stream(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
        dialect: Box<dyn Dialect>,
    ) -> Result<Pieces, ModelError> {
        let deadline = Instant::now() + self.timeouts.whole_answer;
        let mut tries = 0;
        let mut failures = 0;
        loop {
            let first_by = deadline.min(Instant::now() + self.timeouts.first_piece);
            let error = match self.open(path, body, first_by).await {
                Ok(response) => {
                    return Ok(self.reading(response, dialect, first_by, deadline));
                }
                Err(error) => error,
            };
            match error {
                ModelError::Busy | ModelError::Unreachable if tries < self.retries.busy => {
                    tries += 1;
                }
                ModelError::Failed { .. } if failures == 0 => failures += 1,
                error => return Err(error),
            }
            let doubled = self
                .retries
                .pause
                .saturating_mul(1 << (tries + failures).clamp(1, 8).saturating_sub(1));
            let pause = doubled.mul_f64(0.5 + (self.retries.jitter)().clamp(0.0, 1.0));
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    async fn open(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
        first_by: Instant,
    ) -> Result<Response, ModelError> {
        let request = self.request(Method::POST, path).json(body);
        let response = timeout_at(first_by, request.send())
            .await
            .map_err(|_| ModelError::Silent(self.timeouts.first_piece))?
            .map_err(|error| transport(&error))?;
        good(response, first_by).await
    }

    fn reading(
        &self,
        response: Response,
        dialect: Box<dyn Dialect>,
        first_by: Instant,
        deadline: Instant,
    ) -> Pieces {
        let reading = Reading {
            body: response.bytes_stream().boxed(),
            lines: Lines::new(LINE_MAX),
            dialect,
            cleaner: Cleaner::default(),
            first_by,
            deadline,
            started: false,
            over: false,
            last: None,
            timeouts: self.timeouts,
        };
        Box::pin(futures_util::stream::unfold(
            Some(reading),
            |reading| async {
                let mut reading = reading?;
                let item = reading.next().await;
                let done = matches!(item, Err(_) | Ok(Piece::End(_)));
                Some((item, (!done).then_some(reading)))
            },
        ))
    }
}

fn tls(base: &InsideUrl, ca_pem: Option<&[u8]>) -> Result<rustls::ClientConfig, ClientFault> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    let mut roots = rustls::RootCertStore::empty();
    if base.is_https() {
        let pem = ca_pem.ok_or(ClientFault::NoAuthority)?;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(|_| ClientFault::BadAuthority)?)?;
        }
        if roots.is_empty() {
            return Err(ClientFault::BadAuthority);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Sorts what went wrong before an answer came. The library's text may hold the URL, which is no secret, but is not
/// repeated either.
fn transport(error: &reqwest::Error) -> ModelError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(OutsideBoundary::Public { host, address, why }) = inner.downcast_ref() {
            let refusal = OutsideBoundary::Public {
                host: host.clone(),
                address: *address,
                why,
            };
            return ModelError::Outside(Arc::new(refusal));
        }
        source = inner.source();
    }
    if error.is_connect() || error.is_timeout() {
        ModelError::Unreachable
    } else {
        ModelError::Broken
    }
}

async fn read(response: Response, max: usize) -> Result<Vec<u8>, ModelError> {
    let mut body = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(bytes) = stream.next().await {
        body.extend_from_slice(&bytes.map_err(|_| ModelError::Broken)?);
        if body.len() > max {
            return Err(ModelError::LineTooLong { limit: max });
        }
    }
    Ok(body)
}

/// Passes a response with a good status; turns any other into the error it stands for.
async fn good(response: Response, deadline: Instant) -> Result<Response, ModelError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = match timeout_at(deadline, read(response, ERROR_MAX)).await {
        Ok(Ok(body)) => body,
        _ => Vec::new(),
    };
    Err(refusal(status, &body))
}

fn refusal(status: StatusCode, body: &[u8]) -> ModelError {
    let words = words(body);
    let text = ServerText::new(&words);
    let status_code = status.as_u16();
    if is_too_long(&words) {
        return ModelError::TooLong;
    }
    match status_code {
        403 if body.is_empty() => ModelError::HostRefused,
        404 if words.contains("not found") && words.contains("model") => ModelError::NoSuchModel,
        503 | 429 => ModelError::Busy,
        // A wrong option is our mistake even where the server calls it its own.
        500 if words.starts_with("option ") => ModelError::Refused {
            status: status_code,
            text,
        },
        500..=599 if status_code != 501 => ModelError::Failed {
            status: status_code,
            text,
        },
        _ => ModelError::Refused {
            status: status_code,
            text,
        },
    }
}

/// The error text in any of the shapes that the servers use.
pub(super) fn words(body: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else {
        return String::from_utf8_lossy(body).into_owned();
    };
    error_words(value.get("error").unwrap_or(&value))
}

/// The text of an `error` value: a string, or an object with a `message`.
pub(super) fn error_words(error: &serde_json::Value) -> String {
    match error {
        serde_json::Value::String(text) => text.clone(),
        other => match other.get("message").and_then(serde_json::Value::as_str) {
            Some(message) => message.to_owned(),
            None => other.to_string(),
        },
    }
}

/// A prompt longer than the window, in the words of Ollama, of llama.cpp and of vLLM.
pub(super) fn is_too_long(words: &str) -> bool {
    words.contains("exceed_context_size_error")
        || words.contains("exceeds the available context size")
        || words.contains("longer than the context length")
        || words.contains("maximum context length")
}

/// How a server's lines are read.
pub trait Dialect: Send {
    /// Reads one line.
    ///
    /// # Errors
    ///
    /// [`ModelError`], when the line says so or makes no sense.
    fn line(&mut self, line: &[u8]) -> Result<Read, ModelError>;
}

/// What a line meant.
pub enum Read {
    /// Nothing to say yet.
    Nothing,
    /// Text.
    Text(String),
    /// The answer is whole; there may be text with it.
    Done(String, End),
}

struct Reading {
    body: BoxStream<'static, Result<Bytes, reqwest::Error>>,
    lines: Lines,
    dialect: Box<dyn Dialect>,
    cleaner: Cleaner,
    first_by: Instant,
    deadline: Instant,
    started: bool,
    over: bool,
    last: Option<End>,
    timeouts: Timeouts,
}

impl Reading {
    async fn next(&mut self) -> Result<Piece, ModelError> {
        if let Some(end) = self.last {
            return Ok(Piece::End(end));
        }
        let (mut by, mut expired) = self.limit();
        loop {
            while let Some(line) = self.line()? {
                if Instant::now() >= self.deadline {
                    return Err(ModelError::TookTooLong(self.timeouts.whole_answer));
                }
                match self.dialect.line(&line)? {
                    Read::Nothing => {}
                    Read::Text(text) => {
                        let clean = self.cleaner.push(&text);
                        // Thinking is a sign of life too.
                        self.started = true;
                        if !clean.is_empty() {
                            return Ok(Piece::Text(clean));
                        }
                        (by, expired) = self.limit();
                    }
                    Read::Done(text, end) => {
                        let mut clean = self.cleaner.push(&text);
                        clean += &self.cleaner.finish();
                        self.last = Some(end);
                        return Ok(if clean.is_empty() {
                            Piece::End(end)
                        } else {
                            Piece::Text(clean)
                        });
                    }
                }
            }
            if self.over {
                return Err(ModelError::Truncated);
            }
            match timeout_at(by, self.body.next()).await {
                Err(_) => return Err(expired),
                Ok(Some(Ok(bytes))) => self.lines.push(&bytes)?,
                Ok(Some(Err(_))) => return Err(ModelError::Broken),
                Ok(None) => self.over = true,
            }
        }
    }

    /// Until when the next piece must be there, and what it means if it isn't. Silence is measured from piece to piece:
    /// a server that only dribbles bytes is as silent as a dead one.
    fn limit(&self) -> (Instant, ModelError) {
        let (by, expired) = if self.started {
            let limit = self.timeouts.between_pieces;
            (Instant::now() + limit, ModelError::Stalled(limit))
        } else {
            (self.first_by, ModelError::Silent(self.timeouts.first_piece))
        };
        if by < self.deadline {
            (by, expired)
        } else {
            (
                self.deadline,
                ModelError::TookTooLong(self.timeouts.whole_answer),
            )
        }
    }

    fn line(&mut self) -> Result<Option<Bytes>, ModelError> {
        match self.lines.next_line()? {
            Some(line) => Ok(Some(line)),
            None if self.over => Ok(self.lines.rest()),
            None => Ok(None),
        }
    }
}
