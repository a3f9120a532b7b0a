//! Which system-call instructions a thread uses again and again.

/// So many calls by notification make a site worth rewriting: that costs as much as some
/// ten of them.
const HOT: u8 = 12;
/// Sites that are watched at a time: groups by a hash of their address, and how many share one.
const GROUPS: usize = 32;
const SHARERS: usize = 4;

/// Counts by site. A site that finds its group full takes the place of the least used.
#[derive(Debug)]
pub(super) struct HotSites {
    watched: [[(u64, u8); SHARERS]; GROUPS],
    hot: Option<u64>,
}

impl Default for HotSites {
    fn default() -> Self {
        Self { watched: [[(0, 0); SHARERS]; GROUPS], hot: None }
    }
}

impl HotSites {
    /// A call came from the instruction at `site`.
    pub(super) fn note(&mut self, site: u64) {
        let hash = (site ^ site >> 5 ^ site >> 12) as usize % GROUPS;
        let Some(group) = self.watched.get_mut(hash) else { return };
        let known = match group.iter().position(|(at, _)| *at == site) {
            Some(known) => group.get_mut(known),
            None => group.iter_mut().min_by_key(|(_, count)| *count),
        };
        let Some((at, count)) = known else { return };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_called_in_turn_become_hot_though_they_share_a_group() {
        let mut sites = HotSites::default();
        let shared = [1_u64 << 40, 2 << 40, 3 << 40, 4 << 40];
        let mut hot = Vec::new();
        for _ in 0..2 * HOT {
            for site in shared {
                sites.note(site);
                hot.extend(sites.take());
            }
        }
        assert_eq!(hot, shared);
    }
}
