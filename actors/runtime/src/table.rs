use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use aesp_proto::{Entropy, SessionId, TenantId, v1::ContractDraft};
use dashmap::DashMap;

use crate::{
    Dispatch,
    cluster::{Figures, MAX_ROWS, Rows},
    link::Link,
    offers::{Change, DevelopmentTool, Offer},
};

/// Who fulfils what, by tenant, name and version.
#[derive(Default)]
pub(crate) struct Table {
    tenants: DashMap<TenantId, Contracts>,
    development: DashMap<(TenantId, SessionId), DevelopmentTools>,
}

type DevelopmentTools = Vec<(Arc<Link>, Arc<ContractDraft>)>;
type Contracts = HashMap<Arc<str>, HashMap<Arc<str>, Vec<Seat>>>;

struct Seat {
    link: Arc<Link>,
    session: Option<SessionId>,
    development: bool,
}

/// Where a call can go.
pub(crate) enum Route {
    To(Arc<Link>),
    /// Somebody fulfils it, but everybody is full.
    Full,
    Nowhere,
}

impl Table {
    pub(crate) fn apply(&self, link: &Arc<Link>, change: Change, tools: &[DevelopmentTool]) {
        for offer in &change.removed {
            self.remove(link, offer);
        }
        for offer in change.added {
            let seat =
                Seat { link: Arc::clone(link), session: offer.session, development: offer.development };
            let mut contracts = self.tenants.entry(offer.tenant).or_default();
            contracts.entry(offer.name).or_default().entry(offer.version).or_default().push(seat);
        }
        self.replace_tools(link, tools, &change.removed);
    }

    fn remove(&self, link: &Arc<Link>, offer: &Offer) {
        let Some(mut contracts) = self.tenants.get_mut(&offer.tenant) else { return };
        let Some(versions) = contracts.get_mut(&offer.name) else { return };
        if let Some(seats) = versions.get_mut(&offer.version) {
            let same = |seat: &Seat| {
                Arc::ptr_eq(&seat.link, link)
                    && seat.session == offer.session
                    && seat.development == offer.development
            };
            seats.retain(|seat| !same(seat));
            if seats.is_empty() {
                versions.remove(&offer.version);
            }
        }
        if versions.is_empty() {
            contracts.remove(&offer.name);
        }
        drop(contracts);
        self.tenants.remove_if(&offer.tenant, |_, contracts| contracts.is_empty());
    }

    /// Removes whatever a connection left behind that ended without a word.
    pub(crate) fn sweep(&self, link: &Arc<Link>) {
        // What nobody fulfils any more goes, too: whoever finds seats relies on there being one.
        self.tenants.retain(|_, contracts| {
            contracts.retain(|_, versions| {
                versions.retain(|_, seats| {
                    seats.retain(|seat| !Arc::ptr_eq(&seat.link, link));
                    !seats.is_empty()
                });
                !versions.is_empty()
            });
            !contracts.is_empty()
        });
        self.development.retain(|_, tools| {
            tools.retain(|(owner, _)| !Arc::ptr_eq(owner, link));
            !tools.is_empty()
        });
    }

    fn replace_tools(&self, link: &Arc<Link>, tools: &[DevelopmentTool], removed: &[Offer]) {
        let removed = removed.iter().filter(|offer| offer.development);
        let removed = removed.filter_map(|offer| offer.session.map(|session| (offer.tenant, session)));
        let current = tools.iter().map(|tool| (tool.tenant, tool.session));
        for key in removed.chain(current) {
            if let Some(mut entry) = self.development.get_mut(&key) {
                entry.retain(|(owner, _)| !Arc::ptr_eq(owner, link));
            }
            self.development.remove_if(&key, |_, entry| entry.is_empty());
        }
        for tool in tools {
            let mut entry = self.development.entry((tool.tenant, tool.session)).or_default();
            entry.push((Arc::clone(link), Arc::clone(&tool.draft)));
        }
    }

    pub(crate) fn development_tools(&self, tenant: TenantId, session: SessionId) -> Vec<Arc<ContractDraft>> {
        let Some(entry) = self.development.get(&(tenant, session)) else { return Vec::new() };
        entry.iter().map(|(_, draft)| Arc::clone(draft)).collect()
    }

    /// Returns what the connections come to, as other nodes hear of it, and whether there was too much of it.
    pub(crate) fn rows(&self) -> (Rows, bool) {
        let (mut rows, mut left_out) = (Rows::new(), false);
        for entry in &self.tenants {
            for (name, versions) in entry.value() {
                for (version, seats) in versions {
                    for seat in seats {
                        let offer = Offer {
                            tenant: *entry.key(),
                            name: Arc::clone(name),
                            version: Arc::clone(version),
                            session: seat.session,
                            development: seat.development,
                        };
                        if rows.len() < MAX_ROWS || rows.contains_key(&offer) {
                            add(rows.entry(offer).or_default(), &seat.link);
                        } else {
                            left_out = true;
                        }
                    }
                }
            }
        }
        for (offer, figures) in rows.iter_mut().filter(|(offer, _)| offer.development) {
            figures.draft = self.draft(offer);
        }
        (rows, left_out)
    }

    /// Returns the contract of a tool that a Runtime registered itself.
    fn draft(&self, offer: &Offer) -> Option<Arc<ContractDraft>> {
        let tools = self.development.get(&(offer.tenant, offer.session?))?;
        let same = |draft: &ContractDraft| *draft.name == *offer.name && *draft.version == *offer.version;
        tools.iter().map(|(_, draft)| draft).find(|draft| same(draft)).cloned()
    }

    /// Chooses the less loaded of two random connections that fulfil the contract.
    ///
    /// Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001.
    pub(crate) fn route(&self, dispatch: &Dispatch, entropy: &Entropy, queue: u32) -> Route {
        let Some(contracts) = self.tenants.get(&dispatch.tenant) else { return Route::Nowhere };
        let seats = contracts.get(&dispatch.name).and_then(|versions| versions.get(&dispatch.version));
        let Some(seats) = seats else { return Route::Nowhere };
        let fits = |seat: &Seat| {
            seat.development == dispatch.development
                && seat.session.is_none_or(|session| session == dispatch.session)
                && (!dispatch.streaming || seat.link.streaming.load(Ordering::Relaxed))
        };
        match seats.as_slice() {
            [] => return Route::Nowhere,
            [seat] => return if fits(seat) { choose(&seat.link, None, queue) } else { Route::Nowhere },
            _ => {}
        }
        // Most often all fit: two draws that fit are as good as a list of all.
        let draw = entropy.below(u64::MAX);
        let count = seats.len() as u64;
        let (first, second) = (draw % count, (draw % count + 1 + (draw >> 32) % (count - 1)) % count);
        let (first, second) = (&seats[index(first)], &seats[index(second)]);
        if fits(first)
            && fits(second)
            && let Route::To(link) = choose(&first.link, Some(&second.link), queue)
        {
            return Route::To(link);
        }
        let fitting = seats.iter().filter(|seat| fits(seat));
        let best = fitting.min_by_key(|seat| weight(&seat.link));
        best.map_or(Route::Nowhere, |seat| choose(&seat.link, None, queue))
    }
}

fn add(figures: &mut Figures, link: &Link) {
    figures.runtimes += 1;
    figures.streaming += u32::from(link.streaming.load(Ordering::Relaxed));
    figures.leaving += u32::from(link.leaving.load(Ordering::Relaxed));
    figures.credits = figures.credits.saturating_add(link.credits.load(Ordering::Relaxed));
    figures.load = figures.load.saturating_add(link.load.load(Ordering::Relaxed));
}

fn index(n: u64) -> usize {
    usize::try_from(n).expect("an index below a length")
}

/// Those that were asked to leave come last, then those without a free credit; then the number of calls decides.
fn weight(link: &Link) -> (bool, bool, u32) {
    let load = link.load.load(Ordering::Relaxed);
    (link.leaving.load(Ordering::Relaxed), load >= link.credits.load(Ordering::Relaxed), load)
}

fn choose(first: &Arc<Link>, second: Option<&Arc<Link>>, queue: u32) -> Route {
    let best = match second {
        Some(second) if weight(second) < weight(first) => second,
        _ => first,
    };
    let (load, credits) = (best.load.load(Ordering::Relaxed), best.credits.load(Ordering::Relaxed));
    if load >= credits.saturating_add(queue) { Route::Full } else { Route::To(Arc::clone(best)) }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
