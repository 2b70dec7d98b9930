//! Cache of rendered scrapes that clients still read, so that many slow clients share a few buffers.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::lock;
use super::text::ExpositionFormat;

/// Maximum age of a body that a new client may share.
const MAX_AGE: Duration = Duration::from_secs(1);

/// Maximum number of bodies per form. At the limit, clients share the newest at any age; the connection timeout
/// bounds that.
const MAX_BODIES: usize = 2;

/// Form of a body: format, and true for gzip.
pub type RenderForm = (ExpositionFormat, bool);

/// Rendered bodies, each weakly referenced while a client reads it.
#[derive(Debug, Default)]
pub struct RenderCache(Mutex<Vec<CachedBody>>);

/// Rendered body.
#[derive(Debug)]
struct CachedBody {
    form: RenderForm,
    at: Instant,
    body: Weak<Vec<u8>>,
}

/// Owner of a body's bytes.
struct SharedBody(Arc<Vec<u8>>);

impl AsRef<[u8]> for SharedBody {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl RenderCache {
    /// Returns a body to share, or `None` if the scrape must be rendered.
    pub fn find(&self, form: RenderForm) -> Option<Bytes> {
        let mut render_cache = lock(&self.0);
        render_cache.retain(|scrape| scrape.body.strong_count() > 0);
        let mut bodies = render_cache.iter().filter(|scrape| scrape.form == form);
        let (count, newest) = (bodies.clone().count(), bodies.next_back()?);
        let will_do = count >= MAX_BODIES || newest.at.elapsed() < MAX_AGE;
        will_do.then(|| newest.body.upgrade()).flatten().map(into_bytes)
    }

    /// Adds a rendered body.
    pub fn add(&self, form: RenderForm, body: Vec<u8>) -> Bytes {
        let body = Arc::new(body);
        lock(&self.0).push(CachedBody { form, at: Instant::now(), body: Arc::downgrade(&body) });
        into_bytes(body)
    }
}

fn into_bytes(body: Arc<Vec<u8>>) -> Bytes {
    Bytes::from_owner(SharedBody(body))
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const TEXT: RenderForm = (ExpositionFormat::Text, false);

    fn scraped(render_cache: &RenderCache, form: RenderForm) -> Bytes {
        render_cache.find(form).unwrap_or_else(|| render_cache.add(form, vec![0; 100]))
    }

    #[tokio::test(start_paused = true)]
    async fn slow_readers_share_two_bodies() {
        let render_cache = RenderCache::default();
        let mut bodies = Vec::new();
        for _ in 0..20 {
            bodies.push(scraped(&render_cache, TEXT));
            advance(MAX_AGE).await;
        }
        let mut places: Vec<_> = bodies.iter().map(|body| body.as_ptr()).collect();
        places.dedup();
        assert_eq!(places.len(), MAX_BODIES);
        assert_ne!(
            scraped(&render_cache, (ExpositionFormat::Text, true)).as_ptr(),
            places[1],
            "another form"
        );
        // Finished clients leave nothing behind.
        drop(bodies);
        assert!(render_cache.find(TEXT).is_none() && lock(&render_cache.0).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_scrapes_share_one_body() {
        let render_cache = RenderCache::default();
        let first = scraped(&render_cache, TEXT);
        assert_eq!(scraped(&render_cache, TEXT).as_ptr(), first.as_ptr());
        advance(MAX_AGE).await;
        assert_ne!(scraped(&render_cache, TEXT).as_ptr(), first.as_ptr());
        drop(first);
        assert!(render_cache.find((ExpositionFormat::OpenMetrics, false)).is_none());
    }
}
