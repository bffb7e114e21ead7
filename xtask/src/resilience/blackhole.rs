//! Packets of one address and port that vanish, by a rule of nftables. The table belongs to the `nft` that made it (`flags
//! owner`), so that it is gone when that ends, and that ends when this process does, however it does.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::run::{self, Failed};
use crate::setup;

const LIMIT: Duration = Duration::from_secs(5);

/// In force as long as it is there.
pub(super) struct BlackHole {
    nft: Child,
}

impl BlackHole {
    /// What goes to `address` and what comes from it is dropped, of connections that are there too.
    pub(super) fn open(address: SocketAddr) -> Result<BlackHole, Failed> {
        let program = setup::program("nft", "nftables")?;
        let table = format!("witgate_resilience_{}", std::process::id());
        let failed = |error: std::io::Error| Failed::new(format!("nft: {error}"));
        let mut nft = Command::new(&program);
        nft.arg("-i").current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut hole = BlackHole { nft: nft.spawn().map_err(failed)? };
        if let Some(stdin) = &mut hole.nft.stdin {
            stdin.write_all(rules(&table, address).as_bytes()).map_err(failed)?;
        }
        let since = Instant::now();
        let in_force = || run::output(Command::new(&program).args(["list", "table", "inet", &table]));
        while !in_force().is_ok_and(|rules| rules.matches("drop").count() == 2) {
            if since.elapsed() > LIMIT {
                return Err(Failed::new(
                    "packets cannot be dropped here: nftables needs root and support by the kernel",
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(hole)
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        drop(self.nft.stdin.take());
        let _ = self.nft.wait();
    }
}

fn rules(table: &str, address: SocketAddr) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!(
        "add table inet {table} {{ flags owner; }}\n\
         add chain inet {table} input {{ type filter hook input priority 0; }}\n\
         add rule inet {table} input ip daddr {ip} tcp dport {port} drop\n\
         add rule inet {table} input ip saddr {ip} tcp sport {port} drop\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_that_address_and_port() {
        let rules = rules("t", "127.0.2.3:81".parse().unwrap());
        let drops: Vec<&str> = rules.lines().filter(|line| line.ends_with("drop")).collect();
        let expected = ["ip daddr 127.0.2.3 tcp dport 81", "ip saddr 127.0.2.3 tcp sport 81"];
        assert_eq!(drops.len(), 2, "{rules}");
        for (drop, expected) in drops.iter().zip(expected) {
            assert!(drop.contains(expected), "{drop}");
        }
    }
}
