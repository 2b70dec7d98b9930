//! Content negotiation of the metrics endpoint.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING, AsHeaderName};

use super::text::ExpositionFormat;

/// Returns the client's preferred format; Prometheus text by default.
pub fn preferred_format(headers: &HeaderMap) -> ExpositionFormat {
    let (mut text, mut open_metrics) = (0.0_f32, 0.0_f32);
    for offer in offers(headers, ACCEPT) {
        match offer.name {
            // Version 0.0.1 differs in details.
            "application/openmetrics-text" if matches!(offer.version, None | Some("1.0.0")) => {
                open_metrics = open_metrics.max(offer.quality);
            }
            "text/plain" if matches!(offer.version, None | Some("0.0.4")) => text = text.max(offer.quality),
            _ => {}
        }
    }
    if open_metrics > 0.0 && open_metrics >= text {
        ExpositionFormat::OpenMetrics
    } else {
        ExpositionFormat::Text
    }
}

/// Returns true if the client accepts gzip.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let quality = |name: &str| {
        let mut named =
            offers(headers, ACCEPT_ENCODING).filter(|offer| offer.name.eq_ignore_ascii_case(name));
        named.next().map(|offer| offer.quality)
    };
    quality("gzip").or_else(|| quality("*")).is_some_and(|quality| quality > 0.0)
}

/// One entry of an Accept header.
struct AcceptOffer<'a> {
    name: &'a str,
    version: Option<&'a str>,
    /// Preference from 0 (never) to 1.
    quality: f32,
}

fn offers(headers: &HeaderMap, name: impl AsHeaderName) -> impl Iterator<Item = AcceptOffer<'_>> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(offer)
}

fn offer(text: &str) -> AcceptOffer<'_> {
    let mut parts = text.split(';').map(str::trim);
    let mut offer = AcceptOffer { name: parts.next().unwrap_or_default(), version: None, quality: 1.0 };
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        match key {
            "version" => offer.version = Some(value),
            "q" => offer.quality = value.parse().unwrap_or_default(),
            _ => {}
        }
    }
    offer
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(accept: &'static str, encoding: &'static str) -> HeaderMap {
        let accept = (ACCEPT, HeaderValue::from_static(accept));
        [accept, (ACCEPT_ENCODING, HeaderValue::from_static(encoding))].into_iter().collect()
    }

    #[test]
    fn open_metrics_needs_preference() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                          version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let newer = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                     text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3";
        for accept in
            [prometheus, newer, "application/openmetrics-text; version=1.0.0", "application/openmetrics-text"]
        {
            assert_eq!(preferred_format(&headers(accept, "")), ExpositionFormat::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/html,*/*;q=0.8",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.3, text/plain;q=0.5",
            "application/openmetrics-text;q=nonsense",
        ] {
            assert_eq!(preferred_format(&headers(accept, "")), ExpositionFormat::Text, "{accept}");
        }
        assert_eq!(preferred_format(&HeaderMap::new()), ExpositionFormat::Text);
    }

    #[test]
    fn gzip_needs_accept_encoding() {
        for encoding in ["gzip", "deflate, gzip;q=0.5", "GZIP", "*"] {
            assert!(accepts_gzip(&headers("", encoding)), "{encoding}");
        }
        for encoding in ["", "identity", "gzip;q=0", "gzip; q=0.0, *", "br"] {
            assert!(!accepts_gzip(&headers("", encoding)), "{encoding}");
        }
    }
}
