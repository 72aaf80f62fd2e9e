use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use aesp_proto::v1;
use clap::{Args, ValueEnum};
use data_encoding::BASE64;
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::filter::{Filter, Times};
use crate::cli::{context::Context, failure::Failure, progress};

#[derive(Args, Debug)]
pub(crate) struct Export {
    /// `-` for standard output.
    #[arg(long = "file", short = 'f', value_name = "FILE")]
    file: PathBuf,
    /// Only json-lines has proofs: of the whole log, or with --start and --end that it is all of a time range. The others have a signed
    /// manifest.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    times: Times,
    /// Where the manifest goes [default: FILE.manifest].
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Go on with the export into this file that broke off; everything else is as it was asked for then.
    #[arg(long)]
    resume: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    JsonLines,
    Csv,
    Ocsf,
    Cef,
    Syslog,
}

impl Format {
    fn wire(self) -> v1::AuditFormat {
        match self {
            Self::JsonLines => v1::AuditFormat::JsonLines,
            Self::Csv => v1::AuditFormat::Csv,
            Self::Ocsf => v1::AuditFormat::Ocsf,
            Self::Cef => v1::AuditFormat::Cef,
            Self::Syslog => v1::AuditFormat::Syslog,
        }
    }
}

impl Export {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let filter = v1::AuditFilter::from(self.filter);
        let filter = Some(filter).filter(|filter| *filter != v1::AuditFilter::default());
        let request = v1::ExportAuditLogsRequest {
            tenant_id: ctx.tenant(),
            format: self.format.wire().into(),
            start_ms: self.times.start.unwrap_or_default(),
            end_ms: self.times.end.unwrap_or_default(),
            filter,
            cursor: String::new(),
        };
        if self.file == Path::new("-") {
            return to_stdout(ctx, request, self.manifest.as_deref()).await;
        }
        if self.format == Format::JsonLines && !self.resume {
            return with_proofs(ctx, request, &self.file).await;
        }
        let beside = |ending: &str| {
            let mut name = self.file.clone().into_os_string();
            name.push(ending);
            PathBuf::from(name)
        };
        let manifest = self.manifest.clone().unwrap_or_else(|| beside(".manifest"));
        let mut parts = Parts { file: self.file.clone(), manifest, progress: beside(".progress") };
        parts.write(ctx, request, self.resume).await
    }
}

async fn to_stdout(
    ctx: &Context,
    request: v1::ExportAuditLogsRequest,
    manifest: Option<&Path>,
) -> Result<(), Failure> {
    let mut manifest = match manifest {
        None => None,
        Some(path) => Some(File::create(path).map_err(|error| unwritable(path, &error))?),
    };
    let mut answer = ctx.client()?.audit().export_audit_logs(request).await?.into_inner();
    let mut out = io::stdout();
    while let Some(part) = answer.message().await? {
        out.write_all(&part.json_lines)?;
        out.write_all(&part.data)?;
        if let Some(manifest) = manifest.as_mut().filter(|_| !part.manifest_line.is_empty()) {
            writeln!(manifest, "{}", part.manifest_line)?;
        }
    }
    Ok(out.flush()?)
}

/// Writes all that was asked for or nothing: the beginning of it would verify as a truncated one.
async fn with_proofs(ctx: &Context, request: v1::ExportAuditLogsRequest, path: &Path) -> Result<(), Failure> {
    let mut parts = ctx.client()?.audit().export_audit_logs(request).await?.into_inner();
    let draft = path.with_extension("part");
    let mut out = BufWriter::new(File::create(&draft).map_err(|error| unwritable(&draft, &error))?);
    let bar = progress::bytes("exported", None);
    let mut written: u64 = 0;
    while let Some(part) = parts.message().await? {
        out.write_all(&part.json_lines).map_err(|error| unwritable(path, &error))?;
        written += part.json_lines.len() as u64;
        bar.set_position(written);
    }
    out.flush().map_err(|error| unwritable(path, &error))?;
    drop(out);
    bar.finish_and_clear();
    File::open(&draft)?.sync_all()?;
    fs::rename(&draft, path).map_err(|error| unwritable(path, &error))?;
    ctx.console.value(&json!({ "file": path, "bytes": written }))
}

/// The files of an export in parts: each part is on the disk before its line of the manifest is, and that before the progress.
struct Parts {
    file: PathBuf,
    manifest: PathBuf,
    progress: PathBuf,
}

/// Where an export that broke off goes on.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    /// The rest of the export: an encoded request, in base 64.
    request: String,
    /// Bytes of the file, and lines of the manifest, that are whole.
    bytes: u64,
    lines: usize,
}

impl Parts {
    async fn write(
        &mut self,
        ctx: &Context,
        request: v1::ExportAuditLogsRequest,
        resume: bool,
    ) -> Result<(), Failure> {
        let (mut request, mut written, mut lines) = if resume { self.resume()? } else { (request, 0, 0) };
        let mut file = self.open(&self.file, resume)?;
        file.set_len(written).map_err(|error| unwritable(&self.file, &error))?;
        let mut manifest = self.open(&self.manifest, resume)?;
        let bar = progress::bytes("exported", None);
        bar.set_position(written);
        let mut parts = ctx.client()?.audit().export_audit_logs(request.clone()).await?.into_inner();
        let mut complete = false;
        while let Some(part) = parts.message().await? {
            file.write_all(&part.data).map_err(|error| unwritable(&self.file, &error))?;
            written += part.data.len() as u64;
            bar.set_position(written);
            if part.manifest_line.is_empty() {
                continue;
            }
            file.sync_data().map_err(|error| unwritable(&self.file, &error))?;
            let line = format!("{}\n", part.manifest_line);
            manifest.write_all(line.as_bytes()).map_err(|error| unwritable(&self.manifest, &error))?;
            manifest.sync_data().map_err(|error| unwritable(&self.manifest, &error))?;
            lines += 1;
            complete = part.cursor.is_empty();
            request.cursor = part.cursor;
            self.note(&request, written, lines)?;
        }
        bar.finish_and_clear();
        if !complete {
            return Err(Failure::local(
                "the export broke off",
                "run the same command with --resume: it goes on where it broke off",
            ));
        }
        fs::remove_file(&self.progress).map_err(|error| unwritable(&self.progress, &error))?;
        ctx.console.value(&json!({ "file": self.file, "bytes": written, "manifest": self.manifest }))
    }

    fn open(&self, path: &Path, resume: bool) -> Result<File, Failure> {
        let opened = OpenOptions::new().append(true).create(true).open(path);
        let file = opened.map_err(|error| unwritable(path, &error))?;
        if !resume {
            file.set_len(0).map_err(|error| unwritable(path, &error))?;
        }
        Ok(file)
    }

    fn note(&self, request: &v1::ExportAuditLogsRequest, bytes: u64, lines: usize) -> Result<(), Failure> {
        let progress = Progress { request: BASE64.encode(&request.encode_to_vec()), bytes, lines };
        let draft = self.progress.with_extension("progress.part");
        let write = || {
            fs::write(&draft, serde_json::to_vec(&progress)?)?;
            fs::rename(&draft, &self.progress)
        };
        write().map_err(|error| unwritable(&self.progress, &error))
    }

    /// Takes away what is not whole, and tells where to go on.
    fn resume(&self) -> Result<(v1::ExportAuditLogsRequest, u64, usize), Failure> {
        let nothing = || {
            let text = format!("there is no export into {} that broke off", self.file.display());
            Failure::usage(text, "begin it without --resume")
        };
        let progress = fs::read(&self.progress).map_err(|_| nothing())?;
        let progress: Progress = serde_json::from_slice(&progress).map_err(|_| nothing())?;
        let request = BASE64.decode(progress.request.as_bytes()).map_err(|_| nothing())?;
        let request = v1::ExportAuditLogsRequest::decode(request.as_slice()).map_err(|_| nothing())?;
        let size = fs::metadata(&self.file).map_err(|_| nothing())?.len();
        let manifest = BufReader::new(File::open(&self.manifest).map_err(|_| nothing())?);
        let lines: Vec<String> =
            manifest.lines().take(progress.lines).collect::<Result<_, _>>().map_err(|_| nothing())?;
        if size < progress.bytes || lines.len() < progress.lines {
            let text = format!("{} or its manifest is shorter than it was", self.file.display());
            return Err(Failure::local(text, "begin the export anew, without --resume"));
        }
        let kept: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(&self.manifest, kept).map_err(|error| unwritable(&self.manifest, &error))?;
        Ok((request, progress.bytes, progress.lines))
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::local(format!("can't write {}: {error}", path.display()), "name another place with --file")
}
