//! Killed at any moment, nothing accepted is lost and nothing is shown twice.

use wardline_e2e::kill::{Plan, run};
use wardline_e2e::spare::random;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_accepted_is_lost_or_repeated_by_thirty_kills() -> anyhow::Result<()> {
    let plan = Plan {
        kills: 30,
        messages: 500,
        seed: u64::from_be_bytes(random()),
    };
    println!(
        "cargo xtask kill-test --kills {} --seed {}",
        plan.kills, plan.seed
    );
    let report = run(plan).await?;
    println!("{report}");
    assert_eq!(report.kills.values().sum::<u32>(), plan.kills);
    Ok(())
}
