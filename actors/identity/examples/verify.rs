//! Measures what an access token costs: issuing it, verifying it the first time, verifying it again.
//!
//! `cargo run --release -p aesp-identity --example verify`

use std::{error::Error as StdError, hint::black_box};

use aesp_identity::{
    Error, PrincipalName, Snapshot, TokenOptions, Tokens, create_service_account, ensure_signing_key,
};
use aesp_proto::{Clock, Entropy, SystemClock, TenantId};
use aesp_storage::Store;
use tokio::time::Instant;

const TOKENS: usize = 2_000;
const REPEATS: usize = 500;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "a benchmark's output")]
async fn main() -> Result<(), Box<dyn StdError>> {
    let store = Store::for_tests();
    let entropy = Entropy::from_system();
    let tenant = TenantId::random(&entropy);
    let name: PrincipalName = "agent".parse()?;
    let now = SystemClock.now();
    let (principal, tokens, snapshot) = store
        .run::<_, Error, _>(|tx| {
            let (entropy, name) = (entropy.clone(), name.clone());
            Box::pin(async move {
                tx.create_tenant_keys(tenant).await?;
                ensure_signing_key(tx, &entropy, now).await?;
                let (principal, _) = create_service_account(tx, tenant, &name, &entropy, now).await?;
                let tokens = Tokens::load(tx, TokenOptions::default()).await?;
                Ok((principal, tokens, Snapshot::load(tx, tenant).await?))
            })
        })
        .await?;

    let started = Instant::now();
    let issued =
        (0..TOKENS).map(|_| tokens.issue(&principal, None, &entropy, now)).collect::<Result<Vec<_>, _>>()?;
    let report = |what: &str, started: Instant, count: usize| {
        let each = started.elapsed().as_secs_f64() / f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        println!("{what:<28} {:>9.2} us", each * 1e6);
    };
    report("issue", started, TOKENS);

    let started = Instant::now();
    for token in &issued {
        black_box(tokens.verify(token.reveal(), now)?);
    }
    report("verify, first time", started, TOKENS);

    let started = Instant::now();
    for token in issued.iter().cycle().take(TOKENS * REPEATS) {
        black_box(tokens.verify(token.reveal(), now)?);
    }
    report("verify, again", started, TOKENS * REPEATS);

    let claims = tokens.verify(issued[0].reveal(), now)?;
    let started = Instant::now();
    for _ in 0..TOKENS * REPEATS {
        black_box(snapshot.check(black_box(&claims))?);
    }
    report("check against the snapshot", started, TOKENS * REPEATS);
    Ok(())
}
