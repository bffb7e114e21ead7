//! `witgate explain`: what the running proxy would do with a request, as a page for people or as the JSON itself.

use std::net::IpAddr;

use http::{HeaderName, HeaderValue, Method, Uri};
use serde_json::{Map, Value, json};

use super::{
    Failed, Outcome,
    client::Client,
    show::{Paint, Table, say, time},
    target::Connect,
};

/// Say what the running proxy would do with a request, without sending it anywhere.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    connect: Connect,
    /// The method
    #[arg(short = 'X', long = "request", value_name = "METHOD", default_value = "GET")]
    method: Method,
    /// A header, `name: value`; may be given more than once
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The client's IP address
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
    /// The listener that the request comes in by [default: the first one]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Print the proxy's answer as it is
    #[arg(long)]
    json: bool,
    /// `http://host/path?query`, or just `/path`
    #[arg(value_name = "URL", value_parser = url)]
    url: Uri,
}

fn url(text: &str) -> Result<Uri, String> {
    text.parse().map_err(|error| {
        let meant = format!("http://{text}");
        if !text.contains("://") && !text.starts_with('/') && meant.parse::<Uri>().is_ok() {
            format!("expected http://host/path or /path; did you mean {meant}?")
        } else {
            format!("{error}; expected http://host/path or /path")
        }
    })
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("expected `name: value`")?;
    let name = name.trim().parse().map_err(|_| format!("\"{}\" is not a header name", name.trim()))?;
    let value = value.trim().parse().map_err(|_| format!("\"{}\" is not a header value", value.trim()))?;
    Ok((name, value))
}

pub(super) fn command(arguments: &Arguments) -> Outcome {
    let client = Client::open(&arguments.connect)?;
    let wanted = request(arguments)?;
    let answer = client.post("/v1/explain", Some(&wanted))?;
    if arguments.json {
        say!("{answer:#}");
    } else {
        say!("{}", page(&wanted, &answer, Paint::stdout()));
    }
    Ok(())
}

/// The body of the call.
fn request(arguments: &Arguments) -> Outcome<Value> {
    let mut headers: Map<String, Value> = Map::new();
    for (name, value) in &arguments.headers {
        let value = value.to_str().map_err(|_| Failed::new(format!("header {name}: only ASCII can be explained")))?;
        match headers.entry(name.as_str()).or_insert_with(|| json!([])) {
            Value::Array(values) => values.push(value.into()),
            _ => return Err(Failed::new(format!("header {name}"))),
        }
    }
    let path = arguments.url.path_and_query().map_or("/", |path| path.as_str());
    let mut wanted = json!({ "method": arguments.method.as_str(), "path": path, "headers": headers });
    if let Some(authority) = arguments.url.authority().filter(|_| !headers_have_host(arguments)) {
        // Clients do not send what stands before the `@`, and the proxy would refuse it.
        let host = authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, host)| host);
        wanted["host"] = host.into();
    }
    if let Some(client) = arguments.client {
        wanted["client"] = client.to_string().into();
    }
    if let Some(listener) = &arguments.listener {
        wanted["listener"] = listener.as_str().into();
    }
    Ok(wanted)
}

/// As with curl, a `Host` that is given goes before the one in the URL.
fn headers_have_host(arguments: &Arguments) -> bool {
    arguments.headers.iter().any(|(name, _)| *name == http::header::HOST)
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn page(wanted: &Value, answer: &Value, paint: Paint) -> String {
    let mut out = Vec::new();
    let title =
        format!("{} {}{}", text(&wanted["method"]), wanted["host"].as_str().unwrap_or(""), text(&wanted["path"]));
    out.push(paint.bold(title));
    let route = answer["route"].as_str().map_or_else(|| paint.yellow("none matches"), |name| paint.cyan(name));
    out.push(format!(
        "  route      {route}  (listener {}, generation {})",
        text(&answer["listener"]),
        answer["generation"]
    ));
    out.extend(questions(answer, paint));
    for (name, value) in answer["headers_set"].as_object().into_iter().flatten() {
        out.push(format!("  sets       {name}: {}", text(value)));
    }
    for name in answer["headers_removed"].as_array().into_iter().flatten() {
        out.push(format!("  removes    {}", text(name)));
    }
    out.extend(outcome(answer, paint));
    out.join("\n")
}

fn questions(answer: &Value, paint: Paint) -> Vec<String> {
    let asked = answer["questions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if asked.is_empty() {
        return vec![format!("  plugins    {}", paint.dim("none is asked"))];
    }
    let mut table = Table::new(&["question", "plugin", "answer", ">took"]).indent(2);
    for (index, one) in asked.iter().enumerate() {
        // With on_error = "reject" nothing stands in a plugin's place, and it is the last that is asked.
        let rejected = answer["reason"] == "plugin-failure" && index + 1 == asked.len();
        let plugin = match one["version"].as_u64() {
            Some(version) => format!("{} v{version}", text(&one["plugin"])),
            None => format!("{} (not live)", text(&one["plugin"])),
        };
        let said = match (one["answer"].as_str(), one["fallback"].as_str()) {
            (_, Some(why)) if rejected => paint.red(format!("on_error = \"reject\": {why}")),
            (_, Some(why)) => paint.yellow(format!("native, in its place: {why}")),
            (Some(answer), None) => answer.to_owned(),
            (None, None) => paint.dim("no opinion: native"),
        };
        table.row([text(&one["question"]), plugin, said, micros(&one["took_us"])]);
    }
    vec![String::new(), table.render(paint), String::new()]
}

fn outcome(answer: &Value, paint: Paint) -> Vec<String> {
    match answer["outcome"].as_str() {
        Some("reply") => {
            let reply = &answer["reply"];
            let mut out = vec![format!("  {}", paint.bold(format!("the proxy itself answers {}", reply["status"])))];
            for (name, value) in reply["headers"].as_object().into_iter().flatten() {
                out.push(format!("    {name}: {}", text(value)));
            }
            out
        }
        Some("forward") => {
            let mut out = candidates(answer, paint);
            let picked = &answer["picked"];
            let arrow = paint.green(format!("→ {}", text(&picked["address"])));
            out.push(format!("  {arrow}  (cluster {}, by {})", text(&answer["cluster"]), text(&picked["by"])));
            out
        }
        _ => {
            let mut out = candidates(answer, paint);
            out.push(format!("  {}", paint.red(format!("→ {}: {}", answer["status"], text(&answer["reason"])))));
            out
        }
    }
}

fn candidates(answer: &Value, paint: Paint) -> Vec<String> {
    if answer["cluster"].is_null() {
        return Vec::new();
    }
    let mut out = Vec::new();
    let scorer = match answer["scorer"].as_object() {
        Some(scorer) => format!(", scored by {} ({})", text(&scorer["plugin"]), text(&scorer["mode"])),
        None => String::new(),
    };
    out.push(format!("  cluster    {}  ({}{scorer})", paint.cyan(text(&answer["cluster"])), text(&answer["balance"])));
    let affinity = &answer["affinity"];
    if let Some(key) = affinity["key_hash"].as_str() {
        out.push(format!("  affinity   key {key}"));
    }
    if let Some(cookie) = affinity["set_cookie"].as_str() {
        out.push(format!("  set-cookie {cookie}"));
    }
    let endpoints = answer["candidates"].as_array().map(Vec::as_slice).unwrap_or_default();
    let scored = endpoints.iter().any(|endpoint| !endpoint["score"].is_null());
    let head =
        ["", "endpoint", "state", ">weight", ">effective", ">share", ">in flight", ">latency", ">success", ">score"];
    let mut table = Table::new(&head[..head.len() - usize::from(!scored)]).indent(2);
    for endpoint in endpoints {
        let picked = !endpoint["address"].is_null() && endpoint["address"] == answer["picked"]["address"];
        let percent =
            |value: &Value| value.as_f64().map_or_else(|| "–".to_owned(), |share| format!("{:.1} %", share * 100.0));
        let mut row = vec![
            if picked { paint.green("→") } else { String::new() },
            text(&endpoint["address"]),
            text(&endpoint["state"]),
            text(&endpoint["weight"]),
            text(&endpoint["effective_weight"]),
            percent(&endpoint["share"]),
            text(&endpoint["in_flight"]),
            endpoint["latency_ms"].as_f64().map_or_else(|| "–".to_owned(), |ms| format!("{ms:.2} ms")),
            percent(&endpoint["success_rate"]),
        ];
        if scored {
            row.push(text(&endpoint["score"]));
        }
        table.row(row);
    }
    out.extend([String::new(), table.render(paint)]);
    if let Some(omitted @ 1..) = answer["candidates_omitted"].as_u64() {
        out.push(paint.dim(format!("  … and {omitted} more")));
    }
    out.push(String::new());
    out
}

fn micros(value: &Value) -> String {
    value.as_f64().map_or_else(|| "–".to_owned(), |us| time(std::time::Duration::from_secs_f64(us.max(0.0) / 1e6)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarded_request_shows_everything_that_was_decided() {
        let wanted = json!({ "method": "GET", "host": "shop.example", "path": "/a" });
        let answer = json!({
            "generation": 3, "listener": "web", "route": "shop",
            "questions": [
                { "question": "splitter", "plugin": "canary", "version": 2, "answer": "1 (canary)", "fallback": null, "took_us": 0.8 },
                { "question": "router", "plugin": "tenant", "version": null, "answer": null, "fallback": "quarantined", "took_us": 0.0 },
            ],
            "headers_set": { "x-tenant": "acme" }, "headers_removed": ["x-debug"],
            "outcome": "forward", "cluster": "canary", "balance": "least-request", "scorer": null,
            "affinity": { "key_hash": null, "set_cookie": null },
            "candidates": [{ "address": "10.0.0.1:80", "state": "active", "weight": 1, "effective_weight": 1.0,
                "share": 1.0, "in_flight": 2, "latency_ms": 1.5, "success_rate": 1.0, "score": null }],
            "picked": { "address": "10.0.0.1:80", "by": "balance" },
        });
        let page = page(&wanted, &answer, Paint::off());
        // How wide a column is depends on what else is in it.
        let squeezed: Vec<&str> = page.split_whitespace().collect();
        let squeezed = squeezed.join(" ");
        for part in [
            "GET shop.example/a",
            "shop (listener web, generation 3)",
            "canary v2 1 (canary)",
            "800 ns",
            "tenant (not live) native, in its place: quarantined",
            "sets x-tenant: acme",
            "removes x-debug",
            "→ 10.0.0.1:80 active",
            "100.0 %",
            "1.50 ms",
            "→ 10.0.0.1:80 (cluster canary, by balance)",
        ] {
            assert!(squeezed.contains(part), "{part:?} is not in\n{page}");
        }
    }

    #[test]
    fn a_url_has_a_scheme_or_is_a_path() {
        assert!(url("/a?b").is_ok() && url("http://h:1/a").is_ok());
        assert!(url("shop.example.com/x").is_err_and(|error| error.ends_with("mean http://shop.example.com/x?")));
        assert!(url("/a b").is_err_and(|error| error.contains("expected http://host/path or /path")));
    }

    #[test]
    fn a_question_that_ends_the_request_is_told_from_one_with_a_native_answer() {
        let wanted = json!({ "method": "GET", "path": "/" });
        let ask = |question: &str| json!({ "question": question, "plugin": "p", "fallback": "no version is live" });
        let answer = json!({ "route": "a", "questions": [ask("router"), ask("affinity")], "outcome": "error",
            "status": 503, "reason": "plugin-failure" });
        let shown = page(&wanted, &answer, Paint::off());
        assert!(shown.contains("native, in its place: no version is live"), "{shown}");
        assert!(shown.contains("on_error = \"reject\": no version is live"), "{shown}");
    }

    #[test]
    fn a_reply_and_an_error_are_told_apart() {
        let wanted = json!({ "method": "GET", "path": "/" });
        let reply =
            json!({ "route": "a", "questions": [], "outcome": "reply", "reply": { "status": 403, "headers": {} } });
        assert!(page(&wanted, &reply, Paint::off()).contains("the proxy itself answers 403"));
        let error = json!({ "route": null, "questions": [], "outcome": "error", "status": 404, "reason": "no-route" });
        let shown = page(&wanted, &error, Paint::off());
        assert!(shown.contains("none matches") && shown.contains("→ 404: no-route"), "{shown}");
    }
}
