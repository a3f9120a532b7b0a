//! Which system-call instructions a thread uses again and again.

/// So many calls by notification make a site worth rewriting: that costs as much as some
/// ten of them.
const HOT: u8 = 12;
/// Sites that are watched at a time, by a hash of their address.
const WATCHED: usize = 64;

/// Counts by site. A site that shares its place with another one starts anew.
#[derive(Debug)]
pub(super) struct HotSites {
    watched: [(u64, u8); WATCHED],
    hot: Option<u64>,
}

impl Default for HotSites {
    fn default() -> Self {
        Self { watched: [(0, 0); WATCHED], hot: None }
    }
}

impl HotSites {
    /// A call came from the instruction at `site`.
    pub(super) fn note(&mut self, site: u64) {
        let hash = (site ^ site >> 6 ^ site >> 12) as usize % WATCHED;
        let Some((at, count)) = self.watched.get_mut(hash) else { return };
        if *at != site {
            (*at, *count) = (site, 0);
        }
        // Once only: what cannot be rewritten is not asked for again and again.
        *count = count.saturating_add(1);
        if *count == HOT {
            self.hot = Some(site);
        }
    }

    /// The site that has become hot since the last question.
    pub(super) fn take(&mut self) -> Option<u64> {
        self.hot.take()
    }
}
