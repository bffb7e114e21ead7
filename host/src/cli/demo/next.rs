//! After the phases: what the plugins cost, and what to try by hand.

use std::{env, path::Path};

use witgate_policy::{Plugin, Question};

use super::{
    super::show::{Table, count, say, time},
    report::Report,
    world::World,
};

/// What each live plugin was asked, as `witgate plugin list` would say it.
pub(super) fn plugins(world: &World, report: &Report) {
    let mut table = Table::new(&["plugin", ">version", "question", ">calls", ">p50", ">p99", ">fallbacks"]).indent(3);
    for (name, versions) in world.proxy.control().plugins() {
        let Some(plugin) = versions.slot.and_then(|slot| slot.live) else { continue };
        for question in Question::ALL.into_iter().filter(|question| asked(&plugin, *question)) {
            let stats = plugin.stats().question(question);
            table.row([
                name.clone(),
                plugin.version().to_string(),
                question.name().to_owned(),
                count(stats.calls),
                time(stats.quantile(0.5)),
                time(stats.quantile(0.99)),
                count(stats.all_fallbacks()),
            ]);
        }
    }
    say!();
    say!("{}", report.paint.bold("What the plugins cost, a call"));
    say!();
    report.table(&table);
}

fn asked(plugin: &Plugin, question: Question) -> bool {
    let stats = plugin.stats().question(question);
    stats.calls + stats.all_fallbacks() > 0
}

/// Commands to try. `plugins` is where the built modules were found.
pub(super) fn show(world: &World, report: &Report, plugins: &Path, stay: bool) {
    let paint = report.paint;
    let program = env::args().next().unwrap_or_else(|| "witgate".to_owned());
    if !stay {
        say!();
        say!("To try it by hand, keep it running: {}", paint.bold(again(&program, plugins)));
        say!("It then says which curl commands to send where, and how to swap the plugin yourself.");
        return;
    }
    let (web, admin, token) = (world.web, world.proxy.admin(), world.token.display());
    let jar = world.token.with_file_name("cookies");
    let jar = jar.display();
    say!();
    say!("{}", paint.bold("It keeps serving until Ctrl-C. From another terminal:"));
    let parts: [(&str, &[String]); 3] = [
        (
            "Send requests",
            &[
                format!("curl -si -H 'cookie: uid=ada' http://{web}/shop/"),
                format!("curl -s -H 'cookie: uid=ada' -H 'x-canary: 1' http://{web}/shop/"),
                format!("curl -si -H 'Host: acme.example.com' http://{web}/api/"),
                format!("curl -si http://{web}/api/internal/"),
                format!("curl -s -c {jar} -b {jar} http://{web}/cart/   # again and again: one endpoint"),
                format!("curl -s http://{web}/app/"),
            ],
        ),
        (
            "Ask the proxy, and swap a plugin",
            &[
                format!("export WITGATE_ADMIN={admin} WITGATE_TOKEN=\"$(cat {token})\""),
                format!("{program} plugin list"),
                format!("{program} explain -H 'cookie: uid=ada' http://{web}/shop/"),
                format!("{program} plugin activate release 2                     # then /app/ again"),
                format!("{program} plugin rollback release"),
            ],
        ),
        (
            "Look inside",
            &[
                format!("curl -s http://{admin}/metrics | grep plugin_calls"),
                format!("curl -s -H \"Authorization: Bearer $(cat {token})\" http://{admin}/v1/clusters"),
                format!("cat {}", world.config.display()),
            ],
        ),
    ];
    for (title, lines) in parts {
        say!();
        say!("   {}", paint.dim(format_args!("# {title}")));
        lines.iter().for_each(|line| say!("   {line}"));
    }
}

/// The command that runs it once more, and stays.
fn again(program: &str, plugins: &Path) -> String {
    if plugins == Path::new(super::PLUGINS) {
        return format!("{program} demo --stay");
    }
    let plugins = plugins.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:,@".contains(c);
    let plugins = if plugins.chars().all(plain) { plugins } else { format!("'{}'", plugins.replace('\'', r"'\''")) };
    format!("{program} demo --stay --plugins {plugins}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_again_with_the_plugins_it_ran_with() {
        let check = |plugins: &str, want: &str| assert_eq!(again("witgate", Path::new(plugins)), want);
        check("target/plugins", "witgate demo --stay");
        check("/srv/a-b", "witgate demo --stay --plugins /srv/a-b");
        check("it's here", r"witgate demo --stay --plugins 'it'\''s here'");
    }
}
