//! What a configuration wants of plugins. Looks, and says; changes nothing.

use witgate_core::config::{self, Config};
use witgate_policy::{Plugin, Question};

/// Routes and clusters that ask a plugin.
pub(super) fn users_of(config: &Config, name: &str) -> Vec<String> {
    let mut users: Vec<String> = uses_of(config, name).into_iter().map(|(_, user)| user).collect();
    users.dedup();
    users
}

/// What a plugin is asked, and by which route or cluster.
fn uses_of(config: &Config, name: &str) -> Vec<(Question, String)> {
    let routes = config.routes.iter().flat_map(|route| {
        let plugins = &route.plugins;
        let asked = [
            (Question::Router, &plugins.router),
            (Question::Splitter, &plugins.splitter),
            (Question::Affinity, &plugins.affinity),
        ];
        let asked = asked.into_iter().filter(|(_, plugin)| plugin.as_deref() == Some(name));
        asked.map(|(question, _)| (question, format!("route \"{}\"", route.name)))
    });
    let clusters = config.clusters.iter().filter_map(|cluster| match &cluster.balance {
        config::Balance::Plugin { plugin, mode, .. } if plugin == name => {
            let question = match mode {
                config::ScoreMode::Weigh { .. } => Question::Weigh,
                config::ScoreMode::Pick { .. } => Question::Pick,
            };
            Some((question, format!("cluster \"{}\"", cluster.name)))
        }
        _ => None,
    });
    routes.chain(clusters).collect()
}

/// What a plugin is wanted for and does not answer, as sentences: there it counts as not live.
pub(super) fn unanswered(config: &Config, live: Option<&Plugin>, settings: &config::Plugin) -> Vec<String> {
    let uses = uses_of(config, &settings.name);
    let answers = |question: &Question| live.is_some_and(|plugin| plugin.exports().answers(*question));
    let sentence = |question: Question| {
        let mut users = uses.iter().filter(|(asked, _)| *asked == question).map(|(_, user)| user.as_str());
        let first = users.next()?;
        let by = match users.count() {
            0 => format!("{first} asks"),
            more => format!("{first} and {more} more ask"),
        };
        let why = match live {
            Some(plugin) => format!("version {} does not export that", plugin.version()),
            None => "no version is live".to_owned(),
        };
        let instead = match settings.on_error {
            // Weighing is no part of a request.
            config::OnError::Reject if question != Question::Weigh => "requests that come there get 503",
            _ => "the native decision stands in its place",
        };
        Some(format!("{by} it for {question}, but {why}: {instead}"))
    };
    Question::ALL.into_iter().filter(|question| !answers(question)).filter_map(sentence).collect()
}

/// Logs what [`unanswered`] says. A plugin that is uploaded later is no mistake, unless requests are refused until then.
pub(super) fn tell_unanswered(config: &Config, live: Option<&Plugin>, settings: &config::Plugin) {
    let is_mistake = live.is_some() || settings.on_error == config::OnError::Reject;
    for sentence in unanswered(config, live, settings) {
        if is_mistake {
            tracing::warn!(plugin = settings.name, "{sentence}");
        } else {
            tracing::info!(plugin = settings.name, "{sentence}");
        }
    }
}
