//! `cargo xtask kill-test`: see `wardline_e2e::kill`.

use clap::Parser;
use wardline_e2e::kill::{Plan, run};
use wardline_e2e::spare::random;

/// Kills processes at random points of a conversation and checks that nothing is lost or repeated.
#[derive(Parser)]
struct Options {
    /// How many times something is killed.
    #[arg(long, default_value_t = 1000)]
    kills: u32,
    /// Repeats an earlier run.
    #[arg(long)]
    seed: Option<u64>,
    /// How many messages the conversation has, at least one a kill.
    #[arg(long)]
    messages: Option<u32>,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the result is for a person to read")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let plan = Plan {
        kills: options.kills,
        messages: options.messages.unwrap_or(500).max(options.kills),
        seed: options.seed.unwrap_or_else(|| u64::from_be_bytes(random())),
    };
    println!(
        "{} kills in {} messages, --seed {}",
        plan.kills, plan.messages, plan.seed
    );
    println!("{}", run(plan).await?);
    Ok(())
}
