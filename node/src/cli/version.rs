use serde_json::json;

use super::{context::Context, failure::Failure};

pub(crate) fn run(ctx: &Context) -> Result<(), Failure> {
    ctx.console.value(&json!({ "version": ctx.build.version(), "protocol": "aesp.v1" }))
}
