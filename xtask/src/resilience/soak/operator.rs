//! What an operator does to the proxy, well and badly. Each act is looked at until it has come to what it should.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::dice::Dice;
use super::proxy::Proxy;
use super::sets::{Origins, Set};
use crate::lab::process::Scratch;
use crate::resilience::origins::COUNT;
use crate::resilience::site;
use crate::run::{Failed, Outcome};

/// For whatever is waited for: certificates and the file are looked at every second.
const LIMIT: Duration = Duration::from_secs(20);
/// As many as `soak made` makes, and the year in which the first ends.
const CERTIFICATES: usize = 8;
const FIRST_YEAR: u64 = 2100;

const PLUGIN: &str = "/v1/plugins/soak";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    Sighup,
    SighupRefused,
    PutConfig,
    PutConfigRefused,
    Swap,
    Trap,
    Overrun,
    UploadRefused,
    Certificate,
    TakeOut,
    Drain,
    RotateLog,
}

pub(super) const ACTS: [Act; 12] = [
    Act::Sighup,
    Act::SighupRefused,
    Act::PutConfig,
    Act::PutConfigRefused,
    Act::Swap,
    Act::Trap,
    Act::Overrun,
    Act::UploadRefused,
    Act::Certificate,
    Act::TakeOut,
    Act::Drain,
    Act::RotateLog,
];

impl Act {
    pub(super) fn name(self) -> &'static str {
        match self {
            Act::Sighup => "configuration replaced, by SIGHUP",
            Act::SighupRefused => "a broken configuration refused, by SIGHUP",
            Act::PutConfig => "configuration replaced, by PUT /v1/config",
            Act::PutConfigRefused => "a broken configuration refused, by PUT /v1/config",
            Act::Swap => "plugin's version swapped",
            Act::Trap => "plugin that traps activated, rolled back later",
            Act::Overrun => "plugin that never ends activated, rolled back later",
            Act::UploadRefused => "broken plugin refused",
            Act::Certificate => "certificate and key replaced",
            Act::TakeOut => "endpoint taken out by PUT …/endpoints, put back later",
            Act::Drain => "endpoint drained by PATCH, made active later",
            Act::RotateLog => "access log moved away, SIGUSR1",
        }
    }
}

/// What is still to be done for an act.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Later {
    RollBack,
    PutBack(Set, usize),
    Activate(Set, usize),
}

pub(super) struct Operator {
    scratch: PathBuf,
    conf: PathBuf,
    /// The configuration as it is not now, to take turns with.
    other: String,
    live: String,
    certificate: usize,
    /// Which of the honest plugins is live, and whether a bad one is.
    honest: usize,
    bad: bool,
}

impl Operator {
    pub(super) fn new(scratch: &Scratch, conf: PathBuf) -> Result<Operator, Failed> {
        let failed = |error: std::io::Error| Failed::new(format!("{}: {error}", conf.display()));
        let live = fs::read_to_string(&conf).map_err(failed)?;
        let other = live.replace("weight = 1 }", "weight = 2 }").replace("sample = 0.2", "sample = 0.1");
        let scratch = scratch.dir().to_path_buf();
        Ok(Operator { scratch, conf, other, live, certificate: 0, honest: 0, bad: false })
    }

    /// Before the proxy is there.
    pub(super) fn first_certificate(&self) -> Outcome {
        self.copy("pair-0.pem", "live.pem")?;
        self.copy("pair-0.key", "live.key")
    }

    /// Before the load.
    pub(super) fn first_plugin(&self, proxy: &Proxy) -> Outcome {
        self.upload(proxy, "honest-0", &[200, 201])
    }

    /// Does it; says what is to be done later for it, or nothing where this is not the moment for it.
    pub(super) fn act(
        &mut self,
        act: Act,
        proxy: &Proxy,
        origins: &mut Origins,
        dice: &mut Dice,
    ) -> Result<Option<Option<Later>>, Failed> {
        match act {
            Act::Sighup => self.sighup(proxy)?,
            Act::SighupRefused => self.sighup_refused(proxy)?,
            Act::PutConfig => self.put_config(proxy)?,
            Act::PutConfigRefused => expect(proxy, "PUT", "/v1/config", &self.broken(), &[422])?,
            Act::Swap | Act::Trap | Act::Overrun if self.bad => return Ok(None),
            Act::Swap => {
                self.honest = 1 - self.honest;
                self.upload(proxy, &format!("honest-{}", self.honest), &[200, 201])?;
            }
            Act::Trap | Act::Overrun => {
                self.upload(proxy, if act == Act::Trap { "trap" } else { "loop" }, &[200, 201])?;
                self.bad = true;
                return Ok(Some(Some(Later::RollBack)));
            }
            Act::UploadRefused => self.upload(proxy, "refused", &[422])?,
            Act::Certificate => self.rotate(proxy, dice)?,
            Act::TakeOut | Act::Drain => {
                let set = super::sets::SETS[dice.below(3)];
                let Some(number) = origins.take(set, dice) else { return Ok(None) };
                return Ok(Some(Some(if act == Act::TakeOut {
                    put_endpoints(proxy, origins, set, Some(number))?;
                    Later::PutBack(set, number)
                } else {
                    patch(proxy, origins, set, number, "drain")?;
                    Later::Activate(set, number)
                })));
            }
            Act::RotateLog => self.rotate_log(proxy)?,
        }
        Ok(Some(None))
    }

    /// What an act left to be done. An upgrade may have undone it meanwhile, which is as good.
    pub(super) fn finish(&mut self, later: Later, proxy: &Proxy, origins: &mut Origins) -> Outcome {
        match later {
            Later::RollBack => {
                self.bad = false;
                expect(proxy, "POST", &format!("{PLUGIN}/rollback"), "", &[200])
            }
            Later::PutBack(set, number) => {
                origins.back(set, number);
                put_endpoints(proxy, origins, set, None)
            }
            Later::Activate(set, number) => {
                origins.back(set, number);
                patch(proxy, origins, set, number, "active")
            }
        }
    }

    fn sighup(&mut self, proxy: &Proxy) -> Outcome {
        let applied = "witgate_config_reloads_total{outcome=\"applied\"}";
        let before = count(proxy, applied)?;
        site::write(&self.conf, &self.other)?;
        std::mem::swap(&mut self.live, &mut self.other);
        proxy.signal("HUP")?;
        until("a reload", || Ok(count(proxy, applied)? > before))
    }

    fn sighup_refused(&self, proxy: &Proxy) -> Outcome {
        let refused = "witgate_config_reloads_total{outcome=\"refused\"}";
        let before = count(proxy, refused)?;
        site::write(&self.conf, &self.broken())?;
        proxy.signal("HUP")?;
        until("a refusal", || Ok(count(proxy, refused)? > before))?;
        site::write(&self.conf, &self.live)
    }

    fn put_config(&mut self, proxy: &Proxy) -> Outcome {
        std::mem::swap(&mut self.live, &mut self.other);
        expect(proxy, "PUT", "/v1/config", &self.live, &[200])
    }

    fn broken(&self) -> String {
        format!("{}\n[[route]]\nname = \"broken\"\ncluster = \"nowhere\"\n", self.live)
    }

    fn upload(&self, proxy: &Proxy, name: &str, statuses: &[u16]) -> Outcome {
        let file = self.scratch.join(format!("{name}.wasm"));
        let module = fs::read(&file).map_err(|error| Failed::new(format!("{}: {error}", file.display())))?;
        let path = format!("{PLUGIN}?activate=true");
        let answer = proxy.admin.send("PUT", &path, "application/wasm", &module)?;
        said(&format!("upload of {name}"), answer.status, &answer.body, statuses)
    }

    /// The one file and then the other, in place, as some tools do: for a moment, or for longer than the proxy looks away,
    /// they do not belong together.
    fn rotate(&mut self, proxy: &Proxy, dice: &mut Dice) -> Outcome {
        self.certificate = (self.certificate + 1 + dice.below(CERTIFICATES - 1)) % CERTIFICATES;
        self.copy(&format!("pair-{}.pem", self.certificate), "live.pem")?;
        thread::sleep(if dice.below(2) == 0 { Duration::ZERO } else { Duration::from_millis(1_500) });
        self.copy(&format!("pair-{}.key", self.certificate), "live.key")?;
        let ends = begin_of(FIRST_YEAR + self.certificate as u64) as f64;
        let name = "witgate_tls_certificate_expiry_timestamp_seconds{listener=\"tls\"}";
        until("the new certificate", || Ok((count(proxy, name)? - ends).abs() < 1.0))
    }

    fn rotate_log(&self, proxy: &Proxy) -> Outcome {
        let (log, old) = (self.scratch.join("access.log"), self.scratch.join("access.old"));
        let failed = |error: std::io::Error| Failed::new(format!("{}: {error}", log.display()));
        fs::rename(&log, &old).map_err(failed)?;
        proxy.signal("USR1")?;
        until("a new access log", || Ok(fs::metadata(&log).is_ok_and(|file| file.len() > 0)))?;
        fs::remove_file(&old).map_err(failed)
    }

    fn copy(&self, from: &str, to: &str) -> Outcome {
        let copied = fs::copy(self.scratch.join(from), self.scratch.join(to));
        copied.map(drop).map_err(|error| Failed::new(format!("{to}: {error}")))
    }
}

/// The names of the clusters that a set is in.
fn clusters(set: Set) -> &'static [&'static str] {
    match set {
        Set::App => &["app"],
        Set::H2 => &["h2"],
        Set::Echo => &["ws", "echo"],
    }
}

fn put_endpoints(proxy: &Proxy, origins: &Origins, set: Set, without: Option<usize>) -> Outcome {
    let left = (0..COUNT).filter(|number| Some(*number) != without);
    let all: Vec<String> =
        left.map(|number| format!("{{\"address\": \"{}\"}}", origins.address(set, number))).collect();
    let body = format!("{{\"endpoints\": [{}]}}", all.join(", "));
    let path = |cluster| format!("/v1/clusters/{cluster}/endpoints");
    clusters(set).iter().try_for_each(|cluster| expect(proxy, "PUT", &path(cluster), &body, &[200]))
}

fn patch(proxy: &Proxy, origins: &Origins, set: Set, number: usize, state: &str) -> Outcome {
    let (address, body) = (origins.address(set, number), format!("{{\"state\": \"{state}\"}}"));
    let path = |cluster| format!("/v1/clusters/{cluster}/endpoints/{address}");
    clusters(set).iter().try_for_each(|cluster| expect(proxy, "PATCH", &path(cluster), &body, &[200]))
}

fn expect(proxy: &Proxy, method: &str, path: &str, body: &str, statuses: &[u16]) -> Outcome {
    let answer = proxy.admin.call(method, path, body)?;
    said(&format!("{method} {path}"), answer.status, &answer.body, statuses)
}

fn said(what: &str, status: u16, body: &[u8], statuses: &[u16]) -> Outcome {
    if statuses.contains(&status) {
        return Ok(());
    }
    let body: String = String::from_utf8_lossy(body).chars().take(200).collect();
    Err(Failed::new(format!("{what}: {status} {body}")))
}

fn count(proxy: &Proxy, name: &str) -> Result<f64, Failed> {
    let metrics = proxy.metrics()?;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0.0))
}

fn until(what: &str, holds: impl Fn() -> Result<bool, Failed>) -> Outcome {
    let since = Instant::now();
    while !holds()? {
        if since.elapsed() > LIMIT {
            return Err(Failed::new(format!("waited in vain for {what}")));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The first second of a year from 2100 to 2107, since 1970: 2100 has no leap day, 2104 has one.
fn begin_of(year: u64) -> u64 {
    let leap_days = (1970..year).filter(|year| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)).count() as u64;
    ((year - 1970) * 365 + leap_days) * 86_400
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years() {
        assert_eq!(begin_of(1970), 0);
        assert_eq!(begin_of(2000), 946_684_800);
        assert_eq!(begin_of(2100), 4_102_444_800);
    }
}
