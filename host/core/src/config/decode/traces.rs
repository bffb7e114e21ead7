//! `[traces]`.

use http::Uri;

use super::super::{
    model::Traces,
    reader::Table,
    value::{Bad, quoted},
};

const COLLECTOR: &str = "an OpenTelemetry collector's URL, such as \"http://127.0.0.1:4318\"";
/// Where collectors take spans (OTLP/HTTP).
const PATH: &str = "/v1/traces";
const DEFAULT_SAMPLE: f64 = 0.01;
const DEFAULT_SERVICE: &str = "witgate";
const LONGEST_SERVICE: usize = 255;

pub(super) fn traces(table: Table<'_>) -> Option<Traces> {
    let collector = table.require("collector", COLLECTOR);
    let collector = collector.and_then(|value| value.parse(COLLECTOR, url));
    let sample = table.take("sample").and_then(|value| value.number(0.0..=1.0)).unwrap_or(DEFAULT_SAMPLE);
    let service = table.take("service").and_then(|value| value.parse("1 to 255 printable characters", service));
    table.finish();
    Some(Traces { collector: collector?, sample, service: service.unwrap_or_else(|| DEFAULT_SERVICE.to_owned()) })
}

/// Without a path, the one that collectors have.
fn url(text: &str) -> Result<String, Bad> {
    let bad = |why: &str| Bad::new(format!("{} {why}", quoted(text)));
    let uri: Uri = text.parse().map_err(|_| bad("is no URL"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(bad("asks for TLS, which is not spoken to collectors: use one on this host")),
        _ => return Err(bad("is no http:// URL")),
    }
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    if uri.host().is_none_or(str::is_empty) || authority.contains('@') {
        return Err(bad("names no host, or a user"));
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok(format!("http://{authority}{}", if path == "/" { PATH } else { path }))
}

fn service(text: &str) -> Result<String, Bad> {
    let is_fine = (1..=LONGEST_SERVICE).contains(&text.len()) && !text.chars().any(char::is_control);
    if is_fine { Ok(text.to_owned()) } else { Err(Bad::new(format!("{} is no service's name", quoted(text)))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_where_its_url_says() {
        assert_eq!(url("http://127.0.0.1:4318").unwrap(), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(url("http://otel.internal/").unwrap(), "http://otel.internal/v1/traces");
        assert_eq!(url("http://otel:4318/spans?a=b").unwrap(), "http://otel:4318/spans?a=b");
        for bad in ["", "127.0.0.1:4318", "https://otel:4318", "ftp://otel", "http://", "http://user@otel", "http:///x"]
        {
            assert!(url(bad).is_err(), "{bad}");
        }
    }
}
