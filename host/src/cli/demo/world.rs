//! Everything the demo stands on: a temporary directory, the origins, the proxy in process, and the plugins uploaded to
//! it through its admin API as an operator would. Decides nothing and shows only how the uploads go.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tempfile::TempDir;
use witgate_core::config;

use super::{
    super::{
        Failed,
        client::{Client, Progress},
        load,
        show::{Paint, Table, say, size, time},
        signals,
        target::{Address, Target},
    },
    Outcome,
    origins::Origins,
};
use crate::{Phase, Proxy, Source, admin::AdminAddress};

/// Slots of the configuration and the modules that are uploaded to them, the one that is live at first before others.
const UPLOADS: [(&str, &str); 6] = [
    ("canary", "canary"),
    ("tenant", "tenant"),
    ("session", "session"),
    ("latency", "latency"),
    ("release", "blue"),
    ("release", "green"),
];

/// The running demo. Fields are dropped in this order: the proxy before what it stands on.
pub(super) struct World {
    pub(super) proxy: Proxy,
    pub(super) web: SocketAddr,
    admin: Client,
    pub(super) config: PathBuf,
    pub(super) token: PathBuf,
    _origins: Origins,
    _dir: TempDir,
}

impl World {
    /// Starts everything. `plugins` is the directory of the built modules.
    pub(super) fn start(plugins: &Path) -> Outcome<Self> {
        // Before anything is started: this is what most often is not there.
        let modules = modules(plugins)?;
        let failed = |what: &str, error: &dyn std::fmt::Display| Failed::new(format!("{what}: {error}"));
        let dir = tempfile::Builder::new().prefix("witgate-demo-").tempdir();
        let dir = dir.map_err(|error| failed("a temporary directory cannot be made", &error))?;
        let origins = Origins::start().map_err(|error| failed("the origins cannot start", &error))?;
        let file = dir.path().join("witgate.toml");
        let text = configuration(&origins);
        fs::write(&file, &text).map_err(|error| failed(&file.display().to_string(), &error))?;
        let parsed = config::parse(&text, &file.display().to_string(), dir.path()).map_err(|diagnostics| {
            load::show(&diagnostics);
            Failed::said()
        })?;
        let token = parsed.config.admin.token_file.clone();
        let proxy = signals::start(parsed.config, Source::default(), None)?;
        let web = proxy.listener("web").ok_or_else(|| Failed::new("the proxy has no listener named web"))?;
        let admin = client(&proxy)?;
        let world = Self { proxy, web, admin, config: file, token, _origins: origins, _dir: dir };
        world.upload(modules)?;
        Ok(world)
    }

    /// Makes a stored version live, through the admin API.
    pub(super) fn activate(&self, slot: &str, version: u32) -> Outcome<Value> {
        self.admin.post(&format!("/v1/plugins/{slot}/activate"), Some(&json!({ "version": version })))
    }

    /// An error once a signal has asked for the end.
    pub(super) fn on(&self) -> Outcome {
        match self.proxy.control().drain.phase() {
            Phase::Serve => Ok(()),
            _ => Err(Failed::new("interrupted")),
        }
    }

    /// Serves until a signal asks for the end.
    pub(super) fn serve(self) {
        let Self { proxy, .. } = self;
        proxy.wait();
    }

    fn upload(&self, modules: Vec<Vec<u8>>) -> Outcome {
        let mut table =
            Table::new(&["plugin", ">version", "module", ">size", "answers", ">checked and compiled in"]).indent(2);
        for ((slot, module), bytes) in UPLOADS.into_iter().zip(modules) {
            let length = bytes.len() as u64;
            let began = Instant::now();
            let answer = self.upload_one(slot, module, bytes)?;
            let took = time(began.elapsed());
            let answers: Vec<&str> =
                answer["exports"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let version = answer["version"].to_string();
            table.row([slot, &version, &format!("{module}.wasm"), &size(length), &answers.join(", "), &took]);
        }
        say!("{}", table.render(Paint::stdout()));
        Ok(())
    }

    fn upload_one(&self, slot: &str, module: &str, bytes: Vec<u8>) -> Outcome<Value> {
        // Draws to stderr, and nothing where that is no terminal.
        let line = ProgressBar::new_spinner();
        line.set_style(
            ProgressStyle::with_template("  {spinner} {msg} {elapsed}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        line.enable_steady_tick(Duration::from_millis(80));
        let (stages, name) = (line.clone(), module.to_owned());
        let progress = Progress {
            sent: Rc::new(|_| ()),
            stage: Rc::new(move |stage| stages.set_message(format!("{name}.wasm: {stage}"))),
        };
        // The second version of a slot waits until it is swapped in.
        let activate =
            UPLOADS.iter().position(|upload| *upload == (slot, module)) == UPLOADS.iter().position(|(s, _)| *s == slot);
        let answer =
            self.admin.upload(&format!("/v1/plugins/{slot}?progress=true&activate={activate}"), bytes, progress);
        line.finish_and_clear();
        answer
    }
}

fn modules(plugins: &Path) -> Outcome<Vec<Vec<u8>>> {
    let read = |(_, module): (&str, &str)| {
        let file = plugins.join(format!("{module}.wasm"));
        fs::read(&file).map_err(|error| {
            Failed::new(format!(
                "{}: cannot read it: {error}; the demo needs the built plugins: in a checkout, `cargo xtask demo` builds \
                 them and comes back here, or `cargo xtask plugins --example blue --example green` only builds them; \
                 where they are, --plugins DIR says",
                file.display()
            ))
        })
    };
    UPLOADS.into_iter().map(read).collect()
}

fn client(proxy: &Proxy) -> Outcome<Client> {
    let address = match proxy.admin() {
        AdminAddress::Tcp(address) => Address::Tcp(address.to_string()),
        AdminAddress::Unix(file) => Address::Unix(file.clone()),
    };
    let from = || "the demo".to_owned();
    Client::new(Target {
        address,
        token: proxy.token().to_owned(),
        secure: None,
        address_from: from(),
        token_from: from(),
    })
}

/// The configuration, with the origins' addresses put in. Budgets are far above what a call takes: the demo shows
/// decisions, and a machine that is busy building is no reason to fall back.
fn configuration(origins: &Origins) -> String {
    origins.all().fold(include_str!("demo.toml").to_owned(), |text, (name, address)| {
        text.replace(&format!("\"{name}:0\""), &format!("\"{address}\""))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_sound() {
        let text = configuration(&Origins::start().unwrap());
        assert!(!text.contains(":0\" }"), "an origin is missing:\n{text}");
        let parsed = config::parse(&text, "demo.toml", Path::new("."));
        let warnings = parsed.map(|parsed| parsed.warnings.count()).map_err(|diagnostics| diagnostics.to_string());
        assert_eq!(warnings, Ok(0));
    }

    #[test]
    fn missing_modules_say_what_to_do() {
        let message = modules(Path::new("/nowhere")).unwrap_err().message;
        assert!(message.contains("/nowhere/canary.wasm") && message.contains("cargo xtask plugins"), "{message}");
    }
}
