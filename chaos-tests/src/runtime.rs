//! The program `aesp-chaos-runtime`: Runtimes whose tools count their effects in a file that outlives them.

use std::{
    io::Write,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use aesp_proto::Entropy;
use aesp_sdk::{CallContext, Endpoint, Runtime, RuntimeHandle, RuntimeState, Tls, ToolFailure};
use clap::Parser;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::sleep,
};

use crate::{
    effects::{Counter, Effect},
    history::CallKey,
    tools::Tool,
    visits::{HOLD, Register},
};

const REPORT: Duration = Duration::from_millis(100);

/// Runs Runtimes for aesp-chaos, which starts this itself.
#[derive(Parser, Debug)]
#[command(name = "aesp-chaos-runtime")]
pub struct Arguments {
    /// Its id; with --count, the ids are ID-0, ID-1 and so on.
    #[arg(long)]
    id: String,
    /// A node; the first is preferred. May be repeated.
    #[arg(long = "endpoint", required = true)]
    endpoints: Vec<Endpoint>,
    /// The authority of the nodes' certificates.
    #[arg(long)]
    ca: PathBuf,
    /// The certificate that is registered for the Runtime.
    #[arg(long)]
    certificate: PathBuf,
    /// Its key.
    #[arg(long)]
    key: PathBuf,
    /// Where effects are counted.
    #[arg(long)]
    effects: PathBuf,
    /// Where it is written down when calls were held.
    #[arg(long)]
    visits: PathBuf,
    /// How many Runtimes this process is.
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// A call takes up to so long.
    #[arg(long, default_value_t = 5)]
    work_ms: u64,
}

/// How many of the Runtimes serve: a line of JSON on standard error whenever that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Serving {
    pub(crate) serving: usize,
    pub(crate) of: usize,
}

/// Serves until SIGTERM, then drains.
///
/// # Errors
/// When a Runtime can't be made, or the Host refuses one for good.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let files = Files {
        counter: Arc::new(Counter::open(&arguments.effects)?),
        register: Arc::new(Register::open(&arguments.visits)?),
    };
    let entropy = Entropy::from_system();
    let (mut handles, mut runs) = (Vec::new(), JoinSet::new());
    for n in 0..arguments.count {
        let id = if arguments.count == 1 { arguments.id.clone() } else { format!("{}-{n}", arguments.id) };
        let runtime = runtime(&arguments, id, &files, &entropy)?;
        handles.push(runtime.handle());
        runs.spawn(runtime.run());
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut told = None;
    loop {
        let now = serving(&handles);
        if told != Some(now) {
            told = Some(now);
            let line = serde_json::to_string(&now)?;
            // Nobody reads it when aesp-chaos is gone.
            drop(writeln!(std::io::stderr().lock(), "{line}"));
        }
        tokio::select! {
            () = sleep(REPORT) => {}
            Some(ended) = runs.join_next() => {
                ended??;
                return Ok(());
            }
            _ = terminate.recv() => break,
        }
    }
    for handle in &handles {
        handle.drain("aesp-chaos stops this Runtime");
    }
    while let Some(ended) = runs.join_next().await {
        ended??;
    }
    Ok(())
}

/// Where the tools write.
struct Files {
    counter: Arc<Counter>,
    register: Arc<Register>,
}

fn runtime(arguments: &Arguments, id: String, files: &Files, entropy: &Entropy) -> anyhow::Result<Runtime> {
    let identity = Some((arguments.certificate.clone(), arguments.key.clone()));
    let mut builder = Runtime::builder(id, Tls::from_files(&arguments.ca, identity)?)
        .endpoints(arguments.endpoints.iter().cloned())
        .entropy(entropy.clone())
        .connect_timeout(Duration::from_secs(5));
    for tool in Tool::ALL {
        let (counter, entropy, work_ms) = (Arc::clone(&files.counter), entropy.clone(), arguments.work_ms);
        builder = builder.tool(tool.name(), move |call: CallContext, args: Value| {
            let (counter, entropy) = (Arc::clone(&counter), entropy.clone());
            async move {
                let effect = Effect {
                    tool,
                    key: CallKey { session: call.session_id.into(), invocation: call.invocation_id },
                    dispatch: call.dispatch_id.to_string(),
                };
                counter.count(&effect).map_err(|error| ToolFailure::new(error.to_string()))?;
                sleep(Duration::from_millis(entropy.below(work_ms + 1))).await;
                Ok(args)
            }
        });
    }
    let (register, slot) = (Arc::clone(&files.register), Arc::new(OnceLock::new()));
    let own = Arc::clone(&slot);
    builder = builder.tool(HOLD, move |call: CallContext, args: Value| {
        let (register, own) = (Arc::clone(&register), Arc::clone(&own));
        async move { hold(&register, own.get(), call, &args).await }
    });
    let runtime = builder.build()?;
    slot.set(runtime.handle()).ok();
    Ok(runtime)
}

/// Holds a call. One that is cancelled is dropped here, and leaves no second line.
async fn hold(
    register: &Register,
    own: Option<&RuntimeHandle>,
    call: CallContext,
    args: &Value,
) -> Result<Value, ToolFailure> {
    let failed = |error: std::io::Error| ToolFailure::new(error.to_string());
    let key = CallKey { session: call.session_id.into(), invocation: call.invocation_id };
    let dispatch = call.dispatch_id.to_string();
    let began = connection(own);
    register.comes(&key, &dispatch).map_err(failed)?;
    sleep(Duration::from_millis(args["hold_ms"].as_u64().unwrap_or(0))).await;
    register.leaves(&dispatch, began.is_some() && began == connection(own)).map_err(failed)?;
    Ok(json!({ "dispatch": dispatch }))
}

/// Returns the name of the connection over which calls come and are cancelled at this moment.
fn connection(own: Option<&RuntimeHandle>) -> Option<String> {
    let status = own?.status();
    let status = status.borrow();
    let connected = matches!(status.state, RuntimeState::Serving | RuntimeState::Draining);
    connected.then(|| status.connection_id.clone())
}

fn serving(handles: &[RuntimeHandle]) -> Serving {
    let serves = |handle: &&RuntimeHandle| {
        let status = handle.status();
        let status = status.borrow();
        status.state == RuntimeState::Serving && status.fulfilled.len() >= Tool::ALL.len()
    };
    Serving { serving: handles.iter().filter(serves).count(), of: handles.len() }
}
