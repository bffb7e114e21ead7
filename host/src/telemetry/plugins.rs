//! Counters of plugin versions for as long as the process lives. A version that becomes live again is a new plugin to the
//! policy host, and the same series to whoever scrapes: what was counted must not go back to zero.

use std::sync::{Arc, Mutex, PoisonError};

use witgate_policy::Stats;

/// Versions of which the counters are kept, beyond those that are live: some 10 KiB for each thread that asked them.
const KEPT: usize = 64;

/// By plugin and version, the one that became live last at the end.
#[derive(Debug, Default)]
pub struct PluginStats(Mutex<Vec<(String, u32, Arc<Stats>)>>);

impl PluginStats {
    /// Those of a version that is about to be live. Where there is no room for more, those that became live longest ago,
    /// and are not live, begin anew.
    pub fn of(&self, plugin: &str, version: u32) -> Arc<Stats> {
        // Nothing in here panics half-way.
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter().position(|(name, number, _)| name == plugin && *number == version);
        let entry = known.map_or_else(|| (plugin.to_owned(), version, Arc::default()), |at| all.remove(at));
        let stats = Arc::clone(&entry.2);
        all.push(entry);
        let in_use = |stats: &Arc<Stats>| Arc::strong_count(stats) > 1;
        let mut surplus = all.iter().filter(|(.., stats)| !in_use(stats)).count().saturating_sub(KEPT);
        all.retain(|(.., stats)| {
            let goes = surplus > 0 && !in_use(stats);
            surplus -= usize::from(goes);
            !goes
        });
        stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_outlive_their_plugin_and_have_a_bound() {
        let stats = PluginStats::default();
        let live = stats.of("live", 1);
        let same = |a: &Arc<Stats>, b: &Arc<Stats>| Arc::ptr_eq(a, b);
        let last = {
            let last = stats.of("b", 1);
            assert!(same(&last, &stats.of("b", 1)) && !same(&last, &stats.of("b", 2)));
            assert!(!same(&last, &stats.of("c", 1)));
            Arc::downgrade(&last)
        };
        for version in 10..10 + KEPT as u32 {
            assert!(last.upgrade().is_some(), "before {version}");
            stats.of("b", 1);
            stats.of("a", version);
        }
        assert_eq!(stats.0.lock().unwrap().len(), KEPT + 2, "those kept, the one that is live, the one that was asked");
        for version in 1000..1000 + KEPT as u32 {
            stats.of("a", version);
        }
        assert!(last.upgrade().is_none(), "the bound does not hold");
        assert!(same(&live, &stats.of("live", 1)), "what is live is kept");
    }
}
