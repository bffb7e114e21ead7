//! Bytes to component to machine code, and the authenticated cache of the latter. Holds the only `unsafe` of the
//! repository. It must never load machine code that this proxy did not write itself.

use std::borrow::Cow;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use tracing::warn;
use wasi_preview1_component_adapter_provider as preview1;
use wasmparser::{Encoding, Parser, Payload};
use wasmtime::component::Component;
use wasmtime::{Module, Precompiled};
use wit_component::ComponentEncoder;

use crate::compiled::Compiled;
use crate::engine::hex;
use crate::{Refused, Stage, regular};

/// Files that the cache keeps; the oldest go first. An artefact is about four times its module.
const CACHED: usize = 64;
/// Bytes of an artefact. CPython's has 34 MB; a module of the largest upload is mostly data, which is kept as it is.
const ARTEFACT: u64 = 2 << 30;
const MAGIC: &[u8; 8] = b"witgate2";
const TAG: usize = 32;
const KEY: usize = 32;
/// Ends the name of an artefact that is being written.
const UNFINISHED: &str = "tmp";
/// What to do, for every refusal that means "this is not a plugin".
const HINT: &str = "build the plugin with witgate-sdk for wasm32-unknown-unknown or wasm32-wasip2";

/// Makes a component of whatever was uploaded: a component is taken as it is, a core module is wrapped.
pub(crate) fn wrap(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Refused> {
    let refused = |reason: String| Refused::new(Stage::Wrap, reason);
    if bytes.is_empty() {
        return Err(refused(format!("the file is empty; {HINT}")));
    }
    if !bytes.starts_with(b"\0asm") {
        let text = bytes.trim_ascii_start();
        let what = if text.starts_with(b"(module") || text.starts_with(b"(component") {
            "WebAssembly text; convert it with `wasm-tools parse`".to_owned()
        } else {
            format!(
                "not WebAssembly: it begins with {:?}; {HINT}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(8)])
            )
        };
        return Err(refused(format!("the file is {what}")));
    }
    let shape = shape(bytes).map_err(|e| refused(format!("the file is damaged or cut short: {e}")))?;
    match shape {
        Shape::Component => Ok(Cow::Borrowed(bytes)),
        Shape::Core { typed: false, .. } => Err(refused(format!(
            "a core module without an embedded component type, so nothing says what it exports; {HINT}"
        ))),
        Shape::Core { preview1, .. } => guarded(Stage::Wrap, || encode(bytes, preview1))?
            .map(Cow::Owned)
            .map_err(|e| refused(format!("the core module does not fit its embedded component type: {e}"))),
    }
}

enum Shape {
    Component,
    Core { typed: bool, preview1: bool },
}

fn shape(bytes: &[u8]) -> Result<Shape, wasmparser::BinaryReaderError> {
    let (mut typed, mut preview1) = (false, false);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::Version { encoding: Encoding::Component, .. } => return Ok(Shape::Component),
            Payload::CustomSection(section) => typed |= section.name().starts_with("component-type"),
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    preview1 |= import?.module == preview1::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;
                }
            }
            _ => {}
        }
    }
    Ok(Shape::Core { typed, preview1 })
}

/// Errors are the whole chain of causes as text.
fn encode(module: &[u8], preview1: bool) -> Result<Vec<u8>, String> {
    let encode = || {
        let mut encoder = ComponentEncoder::default().module(module)?;
        if preview1 {
            encoder = encoder.adapter(
                preview1::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
                preview1::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
            )?;
        }
        encoder.encode()
    };
    encode().map_err(|e| format!("{e:#}"))
}

/// Runs a transformation of bytes that anyone may have written. A panic in it is a bug of a library, not a reason for
/// the proxy to stop; nothing is shared with the closure that a panic could leave half-changed.
pub(crate) fn guarded<T>(stage: Stage, work: impl FnOnce() -> T) -> Result<T, Refused> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        Refused::new(stage, "the module makes the toolchain fail (the log has the details); it cannot be used")
    })
}

/// Where compiled artefacts are kept, and the key that authenticates them.
#[derive(Clone)]
pub struct CacheOptions {
    /// Made when the first artefact is stored.
    pub dir: PathBuf,
    /// Secret to the user that the proxy runs as: whoever knows it, and can write to `dir`, has machine code of their own
    /// run by the proxy.
    pub key: [u8; KEY],
}

impl std::fmt::Debug for CacheOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheOptions").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Compiled artefacts by the module's SHA-256 and by everything of wasmtime that they depend on.
pub(crate) struct Cache {
    options: CacheOptions,
    compatibility: u64,
}

impl Cache {
    pub(crate) fn new(options: CacheOptions, engine: &wasmtime::Engine) -> Self {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        remove_unfinished(&options.dir);
        let cache = Self { options, compatibility: hasher.finish() };
        // A process that was killed may have kept one more than it should.
        cache.prune();
        cache
    }

    /// The code; none where it is not there or not exactly what this proxy wrote.
    #[expect(unsafe_code, reason = "loading machine code is the point of the cache; the argument is below")]
    pub(crate) fn load(&self, engine: &wasmtime::Engine, sha256: &[u8; 32]) -> Option<Compiled> {
        let path = self.path(sha256);
        let file = regular::read(&path, ARTEFACT).ok()?;
        let authentic = file.split_at_checked(MAGIC.len() + TAG).filter(|(head, code)| {
            let (magic, tag) = head.split_at(MAGIC.len());
            magic == MAGIC && self.mac(sha256, code).verify_slice(tag).is_ok()
        });
        let Some((_, code)) = authentic else {
            warn!(path = %path.display(), "compiled artefact is damaged or was tampered with; compiling anew");
            return None;
        };
        // SAFETY: `deserialize` demands bytes that `serialize` of a compatible wasmtime made. These are: the
        // MAC, keyed with a secret that only this proxy's user can read, covers every byte of them, the hash of the
        // module and wasmtime's own compatibility hash, and `store` makes a MAC over nothing but the output of
        // `serialize`. The bytes are checked and used from this process's own memory, so that the file cannot change
        // in between. wasmtime checks its version and settings once more.
        let compiled = match wasmtime::Engine::detect_precompiled(code) {
            Some(Precompiled::Module) => unsafe { Module::deserialize(engine, code) }.map(Compiled::Module),
            _ => unsafe { Component::deserialize(engine, code) }.map(Compiled::Component),
        };
        compiled.inspect_err(|e| warn!(path = %path.display(), "compiled artefact: {e:#}; compiling anew")).ok()
    }

    /// Keeps the artefact. A failure costs the next start a compilation, so it is logged and no more.
    pub(crate) fn store(&self, sha256: &[u8; 32], compiled: &Compiled) {
        let path = self.path(sha256);
        let code = match compiled {
            Compiled::Component(component) => component.serialize(),
            Compiled::Module(module) => module.serialize(),
        };
        let written = code.map_err(|e| io::Error::other(format!("{e:#}"))).and_then(|code| {
            fs::create_dir_all(&self.options.dir)?;
            let tag = self.mac(sha256, &code).finalize().into_bytes();
            let unfinished = path.with_extension(format!("{}.{UNFINISHED}", std::process::id()));
            // A leftover of a process that was killed, which had the same id.
            let _ = fs::remove_file(&unfinished);
            write_new(&unfinished, &[MAGIC, &tag, &code]).and_then(|()| fs::rename(&unfinished, &path)).inspect_err(
                |_| {
                    // A disk that is full must not be kept full by what could not be written.
                    let _ = fs::remove_file(&unfinished);
                },
            )
        });
        match written {
            Ok(()) => self.prune(),
            Err(e) => warn!(path = %path.display(), "compiled artefact cannot be kept: {e}"),
        }
    }

    fn path(&self, sha256: &[u8; 32]) -> PathBuf {
        self.options.dir.join(format!("{}-{:016x}.cwasm", hex(sha256), self.compatibility))
    }

    fn mac(&self, sha256: &[u8; 32], code: &[u8]) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.options.key).expect("HMAC takes a key of any length");
        mac.update(MAGIC);
        mac.update(sha256);
        mac.update(&self.compatibility.to_le_bytes());
        mac.update(code);
        mac
    }

    /// Removes the oldest files beyond [`CACHED`]. Races with another process are harmless: the worst is a compilation.
    fn prune(&self) {
        let Ok(dir) = fs::read_dir(&self.options.dir) else { return };
        let mut files: Vec<_> = dir
            .filter_map(Result::ok)
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort_unstable();
        for (_, path) in files.iter().take(files.len().saturating_sub(CACHED)) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Removes what processes that were killed had not finished. One that another process is at costs that one a warning.
fn remove_unfinished(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == UNFINISHED) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Writes a file that must not exist yet, readable by this user only.
fn write_new(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
}
