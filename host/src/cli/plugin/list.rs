//! `witgate plugin list`: every plugin in a line, and below it what is wrong with those that are not live.

use std::time::Duration;

use serde_json::Value;

use crate::cli::{
    Outcome,
    client::Client,
    show::{Paint, Table, count, say, time},
    target::Connect,
};

/// Show plugins, their versions, and how the live ones do.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Print the proxy's answer as it is
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: Connect,
}

pub(super) fn command(arguments: &Arguments) -> Outcome {
    let answer = Client::open(&arguments.connect)?.get("/v1/plugins")?;
    if arguments.json {
        say!("{answer:#}");
        return Ok(());
    }
    match answer["plugins"].as_array().map(Vec::as_slice) {
        None | Some([]) => say!("no plugins: witgate plugin push FILE --name NAME --activate"),
        Some(plugins) => say!("{}", table(plugins, Paint::stdout())),
    }
    Ok(())
}

fn table(plugins: &[Value], paint: Paint) -> String {
    let head = ["name", ">active", ">versions", "exports", "circuit", ">calls", ">fallbacks", ">p50", ">p99"];
    let mut table = Table::new(&head);
    for plugin in plugins {
        let live = &plugin["live"];
        let number = |value: &Value| value.as_u64().map_or_else(|| "–".to_owned(), count);
        let took = |value: &Value| {
            value.as_f64().map_or_else(|| "–".to_owned(), |us| time(Duration::from_secs_f64(us.max(0.0) / 1e6)))
        };
        let exports: Vec<&str> = live["exports"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let circuit = match live["circuit"]["state"].as_str() {
            Some("closed") => "closed".to_owned(),
            Some(state) => paint.red(state),
            None => "–".to_owned(),
        };
        let asked = live["calls"].as_u64().is_some_and(|calls| calls > 0);
        table.row([
            paint.bold(plugin["name"].as_str().unwrap_or("?")),
            number(&plugin["active"]),
            number(&Value::from(plugin["versions"].as_array().map_or(0, Vec::len))),
            if live.is_null() { paint.yellow("not live") } else { exports.join(" ") },
            circuit,
            number(&live["calls"]),
            number(&live["fallbacks"]),
            if asked { took(&live["p50_us"]) } else { "–".to_owned() },
            if asked { took(&live["p99_us"]) } else { "–".to_owned() },
        ]);
    }
    let broken = plugins.iter().filter_map(|plugin| {
        let why = plugin["broken"].as_str()?;
        Some(format!("\n{} {}: {why}", paint.red("broken:"), plugin["name"].as_str().unwrap_or("?")))
    });
    table.render(paint) + &broken.collect::<String>()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plugin_is_a_line() {
        let plugins = [
            json!({
                "name": "canary", "active": 2, "versions": [{}, {}], "broken": null,
                "live": { "exports": ["splitter"], "circuit": { "state": "closed" }, "calls": 12_345, "fallbacks": 0,
                    "p50_us": 0.8, "p99_us": 2.5 },
            }),
            json!({ "name": "bad", "active": 1, "versions": [{}], "broken": "it traps", "live": null }),
        ];
        let shown = table(&plugins, Paint::off());
        let words: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[1].join(" "), "canary 2 2 splitter closed 12,345 0 800 ns 2.50 µs", "{shown}");
        assert_eq!(words[2].join(" "), "bad 1 1 not live – – – – –", "{shown}");
        assert_eq!(words[3].join(" "), "broken: bad: it traps", "{shown}");
    }
}
