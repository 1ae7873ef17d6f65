//! The Ollama stand-in as a process of its own: prints its URL on the first line and answers until it is ended.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use wardline_e2e::ollama::{DIGEST, Habits, MODEL, Ollama};

/// A stand-in for an Ollama server, for tests and the demonstration. It answers every question with the same words.
#[derive(Parser)]
struct Options {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The name of its one model.
    #[arg(long, default_value = MODEL)]
    model: String,
    /// That model's digest.
    #[arg(long, default_value = DIGEST)]
    digest: String,
    /// What it answers.
    #[arg(long, default_value_t = Habits::default().reply)]
    reply: String,
    /// The pause before each word, in milliseconds.
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// Print each request as one JSON line.
    #[arg(long)]
    print_requests: bool,
}

#[tokio::main]
#[expect(
    clippy::print_stdout,
    reason = "the first line of standard output is how the caller learns the URL"
)]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let server = Ollama::with(Habits {
        model: options.model,
        digest: options.digest,
        reply: options.reply,
        delay: Duration::from_millis(options.delay_ms),
        listen: options.listen,
        print_requests: options.print_requests,
    })
    .await?;
    println!("{}", server.url());
    std::future::pending::<()>().await;
    Ok(())
}
