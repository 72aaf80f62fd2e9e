//! Key managers as they are: OpenBao, started by the test.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::print_stdout, reason = "a skipped test must be seen")]

mod azure;
mod azure_stub;
#[path = "../../../../tests/src/bao.rs"]
#[expect(dead_code, unreachable_pub, reason = "other tests use other parts")]
mod bao;
mod logins;
mod pkcs11;
mod vault;

/// Says that a test shows nothing here, and why. In CI, which has everything, that is a failure.
fn skip(reason: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped in CI: {reason}");
    println!("SKIPPED: {reason}");
}
