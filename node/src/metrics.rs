use prometheus::{IntGaugeVec, Opts, Registry};

/// Registers the constant that tells which build runs.
pub(crate) fn register_build(registry: &Registry) -> Result<(), prometheus::Error> {
    let build = IntGaugeVec::new(Opts::new("aesp_build_info", "The running build."), &["version"])?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    registry.register(Box::new(build))
}
