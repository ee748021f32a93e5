//! `kumo.define_spool` and `kumo.configure_local_logs`: where accepted mail and the log records lie.
//!
//! KumoMTA keeps bodies and envelopes in two stores; kumod has one log for both, under the path of `data`. What only concerns
//! KumoMTA's stores is accepted, so that its policies load, and named in the log as without effect. Nothing is made on disk here.

use std::path::PathBuf;

use mlua::{Lua, Table, Value};
use serde::Deserialize;
use serde_json::Value as Json;

use super::{fail, options, record};

const SPOOL: &str = "kumo.define_spool";
const LOGS: &str = "kumo.configure_local_logs";

/// KumoMTA's floors, which must not be taken for working ones.
const SPOOL_UNSERVED: [&str; 2] = ["min_free_inodes", "min_free_space"];
const LOGS_UNSERVED: [&str; 9] = [
    "back_pressure",
    "compression_level",
    "filter_event",
    "headers",
    "meta",
    "min_free_inodes",
    "min_free_space",
    "per_record",
    "log_arf",
];

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SpoolOptions {
    name: Option<SpoolName>,
    path: Option<PathBuf>,
    kind: Option<Kind>,
    flush: Option<bool>,
    rocks_params: Option<Json>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum SpoolName {
    Data,
    Meta,
}

/// KumoMTA's two stores; ours is neither.
#[derive(Debug, Deserialize)]
enum Kind {
    LocalDisk,
    #[serde(rename = "RocksDB")]
    RocksDb,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LogOptions {
    log_dir: Option<PathBuf>,
    max_file_size: Option<u64>,
    max_segment_duration: Option<Json>,
}

pub(super) fn install(lua: &Lua, module: &Table) -> mlua::Result<()> {
    module.set("define_spool", lua.create_function(define_spool)?)?;
    module.set("configure_local_logs", lua.create_function(configure_local_logs)?)
}

fn define_spool(lua: &Lua, given: Value) -> mlua::Result<()> {
    let spool: SpoolOptions = options::read(lua, SPOOL, &given, &SPOOL_UNSERVED)?;
    let name = spool.name.ok_or_else(|| fail(lua, SPOOL, "option 'name' is missing: 'data' or 'meta'"))?;
    let path = needed_path(spool.path.clone())
        .ok_or_else(|| fail(lua, SPOOL, "option 'path' is missing: a folder"))?;
    record(lua, SPOOL, |recorded| {
        let place = match name {
            SpoolName::Data => &mut recorded.spool_dir,
            SpoolName::Meta => &mut recorded.spool_meta_dir,
        };
        if place.is_some() {
            return Err(format!("the spool '{}' is defined already", name.text()));
        }
        *place = Some(path.clone());
        Ok(())
    })?;
    mention(name, &path, &spool);
    Ok(())
}

/// Says once, at start, what a policy made for KumoMTA's stores has no effect on.
fn mention(name: SpoolName, path: &std::path::Path, spool: &SpoolOptions) {
    let path = path.display();
    if name == SpoolName::Meta {
        tracing::info!(
            "the spool 'meta' at {path} is not used: bodies and envelopes share one log under the path of 'data'"
        );
        return;
    }
    if let Some(Kind::RocksDb) = spool.kind {
        tracing::info!(
            "kind = 'RocksDB' of the spool 'data' has no meaning here: the spool is a log of its own"
        );
    }
    if spool.rocks_params.is_some() {
        tracing::info!("rocks_params of the spool 'data' have no meaning here");
    }
    if spool.flush == Some(false) {
        tracing::info!(
            "flush = false of the spool 'data' has no meaning here: --durability says what a 250 promises"
        );
    }
}

fn configure_local_logs(lua: &Lua, given: Value) -> mlua::Result<()> {
    let logs: LogOptions = options::read(lua, LOGS, &given, &LOGS_UNSERVED)?;
    let dir =
        needed_path(logs.log_dir).ok_or_else(|| fail(lua, LOGS, "option 'log_dir' is missing: a folder"))?;
    record(lua, LOGS, |recorded| {
        if recorded.log_dir.is_some() {
            return Err("the logs are configured already".to_owned());
        }
        recorded.log_dir = Some(dir);
        Ok(())
    })?;
    for (option, given) in [
        ("max_file_size", logs.max_file_size.is_some()),
        ("max_segment_duration", logs.max_segment_duration.is_some()),
    ] {
        if given {
            tracing::warn!("{option} of the local logs has no effect in this version");
        }
    }
    Ok(())
}

fn needed_path(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

impl SpoolName {
    const fn text(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Meta => "meta",
        }
    }
}
