//! Numbers as the API writes them: durations in the unit that the key names, floats short, and never what JSON has no
//! word for.

use std::time::{Duration, Instant};

use serde_json::Value;

/// Whole milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Microseconds with one decimal: a question takes about one.
pub(super) fn micros(time: Duration) -> Value {
    number(time.as_secs_f64() * 1e6, 1)
}

/// Milliseconds since `then`.
pub(super) fn age_ms(then: Instant, now: Instant) -> u64 {
    millis(now.saturating_duration_since(then))
}

/// With so many decimals; null where it is not finite.
pub(super) fn number(value: f64, decimals: i32) -> Value {
    let scale = 10_f64.powi(decimals);
    serde_json::Number::from_f64((value * scale).round() / scale).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_finite() {
        assert_eq!(number(f64::from(0.1_f32), 4).to_string(), "0.1");
        assert_eq!(number(f64::NAN, 4), Value::Null);
        assert_eq!(number(f64::INFINITY, 4), Value::Null);
        assert_eq!(micros(Duration::from_nanos(1_234)).to_string(), "1.2");
        assert_eq!(millis(Duration::MAX), u64::MAX);
    }
}
