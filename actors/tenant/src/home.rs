use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aesp_proto::{Incarnation, Revision};

use crate::{
    book::Book,
    bucket::Bucket,
    ceilings::{Ceiling, Ceilings},
    counts::{Counts, Each, Limit},
    holder::CHUNK,
    message::{Collect, Grant, Message, Newest, Report, Term, Verdict},
    recall::{Recall, Recalls},
    stored::Stored,
};

/// After what time the ceilings are written anew when they are far too high. Long enough that a spent burst has come back.
const TIDY: Duration = Duration::from_secs(2);

/// How long a node that reports may be among the living without being seen there. Much longer than a lease: a home that sees so
/// little of the others has lost its own.
const JOINING: Duration = Duration::from_secs(10);

/// What a home wants to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Send this to a holder.
    Tell(Incarnation, Message),
    /// Store the ceilings in a transaction that fails if the shard has a newer owner, then say so with [`Home::written`].
    Write(Ceilings),
    /// Count the tenant's sessions in the store, then say so with [`Home::counted`]. No dead node may own a shard when the count
    /// begins: it could still store some.
    Count,
}

/// The books of one tenant: who holds what of its limits. Without I/O and clock.
///
/// INVARIANT Q1: what all nodes hold, with the sessions that are stored, is never more than `total` says, and nothing is
/// granted beyond the quota.
#[derive(Debug)]
pub(crate) struct Home {
    term: Term,
    /// The newest quotas that any node knows.
    newest: Option<Newest>,
    books: BTreeMap<Incarnation, Book>,
    /// What the store has.
    kept: Ceilings,
    /// What is on its way there.
    writing: Option<Ceilings>,
    written_at: Duration,
    /// When starts were last handed out.
    started_at: Option<Duration>,
    /// Whether nobody held anything when this home began.
    fresh: bool,
    bucket: Bucket,
    stored: Stored,
    recalls: Recalls,
    /// Of the last collection.
    round: u64,
}

impl Home {
    /// Begins with what the store says that nodes may hold, and asks the living for what they do hold.
    pub(crate) fn new(
        term: Term,
        kept: Ceilings,
        living: &BTreeSet<Incarnation>,
        now: Duration,
    ) -> (Self, Vec<Effect>) {
        let book = |(node, ceiling): (&Incarnation, &Ceiling)| {
            (*node, Book::of(*ceiling, living.contains(node), now))
        };
        let books = kept.iter().map(book).collect();
        let fresh = kept.is_empty();
        let home = Self {
            term,
            newest: None,
            books,
            kept,
            writing: None,
            written_at: now,
            started_at: None,
            fresh,
            bucket: Bucket::full(),
            stored: Stored::default(),
            recalls: Recalls::default(),
            round: 0,
        };
        let effects = home.introduce();
        (home, effects)
    }

    pub(crate) fn term(&self) -> Term {
        self.term
    }

    /// Returns how many places dead nodes' calls keep.
    pub(crate) fn reserved_calls(&self) -> u32 {
        let gone = self.books.values().filter(|book| book.gone.is_some());
        gone.map(|book| book.held[Limit::Calls]).fold(0, u32::saturating_add)
    }

    /// Tells whether nothing is lost when this home is forgotten.
    pub(crate) fn is_idle(&self) -> bool {
        let idle = |book: &Book| !book.waits() && book.ceiling().is_zero();
        self.books.values().all(idle)
            && self.kept.is_empty()
            && self.writing.is_none()
            && !self.stored.is_counting()
    }

    /// Hears what a node holds and wants.
    pub(crate) fn hear(&mut self, from: Incarnation, report: &Report, now: Duration) -> Vec<Effect> {
        if report.term > self.term {
            // A newer home is on its way here, or elsewhere.
            return Vec::new();
        }
        let book = self.books.entry(from).or_default();
        if book.gone.is_some() {
            return Vec::new();
        }
        if report.term < self.term {
            return vec![self.collect(from, Each::default(), 0)];
        }
        if book.heard.is_some_and(|heard| heard >= report.number) {
            return Vec::new();
        }
        match book.heard {
            Some(_) => self.stored.more(report.stored.saturating_sub(book.stored)),
            // What it stored before is in no count that began before, and what it held is no more.
            None if book.held[Limit::Sessions] > 0 => self.stored.doubt(),
            None => {}
        }
        book.hear(report, now);
        self.learn(report.quotas, now);
        let rate = self.quota(Limit::Starts);
        self.bucket.give(rate, report.returned);
        self.recalls.answered(from, report.round, now);
        self.settle(now)
    }

    /// Hears whether the ceilings were stored.
    pub(crate) fn written(&mut self, stored: bool, now: Duration) -> Vec<Effect> {
        let Some(writing) = self.writing.take() else { return Vec::new() };
        if stored {
            self.kept = writing;
        } else {
            // They may be stored all the same.
            self.kept.retain(|node, _| writing.contains_key(node));
            for (node, kept) in &mut self.kept {
                *kept = (*kept).min(writing[node]);
            }
        }
        self.written_at = now;
        if stored { self.settle(now) } else { Vec::new() }
    }

    /// Hears how many sessions there are; none if they could not be counted.
    pub(crate) fn counted(&mut self, count: Option<u64>, now: Duration) -> Vec<Effect> {
        for node in self.stored.counted(count, now) {
            if let Some(book) = self.books.get_mut(&node) {
                book.held[Limit::Sessions] = 0;
            }
        }
        self.settle(now)
    }

    /// Lets time pass; to be called several times a second.
    pub(crate) fn tick(&mut self, living: &BTreeSet<Incarnation>, now: Duration) -> Vec<Effect> {
        for (node, book) in &mut self.books {
            if living.contains(node) {
                book.seen = true;
                continue;
            }
            // One that is newer than all that are known may have joined a moment ago.
            let joins = !book.seen
                && living.last().is_none_or(|last| last < node)
                && now < book.heard_at.saturating_add(JOINING);
            if book.gone.is_none() && !joins {
                book.die(now);
                self.recalls.lost(*node, now);
            }
            book.end_calls(now);
        }
        // The books of the dead stay, so that what they sent before is known for what it is.
        let mut effects = self.introduce();
        for (node, recalled, round) in self.recalls.tick(now) {
            effects.push(self.collect(node, recalled, round));
        }
        let uncounted = self.books.values().filter(|book| book.held[Limit::Sessions] > 0);
        if let Some(gone) = uncounted.filter_map(|book| book.gone).max() {
            self.stored.want(gone);
        }
        effects.extend(self.settle(now));
        effects.extend(self.tidy(now));
        effects
    }

    /// Lowers the ceilings to what is held now, before the node leaves.
    pub(crate) fn settle_up(&mut self) -> Vec<Effect> {
        let settled = self
            .kept
            .iter()
            .all(|(node, kept)| self.books.get(node).is_some_and(|book| book.ceiling().held == kept.held));
        if settled || self.writing.is_some() { Vec::new() } else { vec![self.write(&Ceilings::new())] }
    }

    /// Tells whether nothing is on its way to the store.
    pub(crate) fn is_settled(&self) -> bool {
        self.writing.is_none()
    }

    /// Asks the living that have not reported yet.
    fn introduce(&self) -> Vec<Effect> {
        let unheard = self.books.iter().filter(|(_, book)| book.heard.is_none() && book.gone.is_none());
        let unheard: Vec<_> = unheard.map(|(node, _)| *node).collect();
        unheard.into_iter().map(|node| self.collect(node, Each::default(), 0)).collect()
    }

    fn collect(&self, node: Incarnation, recalled: Each<bool>, round: u64) -> Effect {
        Effect::Tell(node, Message::Collect(Collect { term: self.term, recalled, round }))
    }

    fn learn(&mut self, newest: Newest, now: Duration) {
        // A node that has not loaded the tenant knows no quotas.
        let known = self.newest.map_or(Revision(0), |known| known.revision);
        if known < newest.revision {
            if self.newest.is_none() && !self.fresh {
                // The home before may have handed out a burst a moment ago.
                self.bucket = Bucket::empty(newest.quotas.calls_per_second, now);
            }
            self.newest = Some(newest);
        }
    }

    fn quota(&self, limit: Limit) -> u32 {
        self.newest.map_or(0, |newest| limit.of(&newest.quotas))
    }

    /// Returns the most that is in use or held anywhere; none if that is not known.
    fn total(&self, limit: Limit) -> Option<u64> {
        let stored = if limit == Limit::Sessions { self.stored.most()? } else { 0 };
        Some(self.books.values().map(|book| u64::from(book.held[limit])).sum::<u64>() + stored)
    }

    /// Answers whoever can be answered, and begins whatever the others wait for.
    fn settle(&mut self, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut wishes = Ceilings::new();
        let waiting = self.books.iter().filter(|(_, book)| book.waits());
        let mut waiting: Vec<_> = waiting.map(|(node, book)| (book.since(), *node)).collect();
        // Who came first is served first.
        waiting.sort();
        for (_, node) in waiting {
            let mut desk = Desk { node, now, effects: &mut effects, wishes: &mut wishes };
            let mut grant = self.grant_to(node, now);
            for limit in Limit::ALL {
                if self.books[&node].asked_at[limit].is_none() {
                    continue;
                }
                if let Some((raised, verdict)) = self.decide(limit, &mut desk) {
                    grant.raised[limit] = raised;
                    grant.verdicts[limit] = verdict;
                }
            }
            if grant.verdicts != Each::default() {
                effects.push(self.answer(node, grant));
            }
        }
        if !wishes.is_empty() && self.writing.is_none() {
            effects.push(self.write(&wishes));
        }
        let owned = |book: &Book| book.gone.is_some() && book.held[Limit::Sessions] > 0;
        let gone = self.books.iter().filter(|(_, book)| owned(book)).map(|(node, _)| *node);
        if self.stored.begin(gone, now) {
            effects.push(Effect::Count);
        }
        effects
    }

    fn grant_to(&self, node: Incarnation, now: Duration) -> Grant {
        let book = &self.books[&node];
        Grant {
            term: self.term,
            number: book.heard.unwrap_or_default(),
            raised: Counts::default(),
            longest: book.longest,
            verdicts: Each::default(),
            retry_after: self.bucket.wait(self.quota(Limit::Starts), now),
        }
    }

    /// Closes the report and writes down what it is answered with.
    fn answer(&mut self, node: Incarnation, mut grant: Grant) -> Effect {
        let book = self.books.get_mut(&node).expect("it waits, so it has a book");
        book.open = false;
        for limit in Limit::ALL.into_iter().filter(|limit| grant.verdicts[*limit] != Verdict::Open) {
            book.asked_at[limit] = None;
            if limit != Limit::Starts {
                let level = &mut book.levels[limit];
                level.limit = level.limit.saturating_add(grant.raised[limit]);
                book.held[limit] = level.held();
            }
        }
        if grant.verdicts[Limit::Calls] == Verdict::Granted {
            book.longest = book.longest.max(book.wanted_longest);
            grant.longest = book.longest;
        }
        Effect::Tell(node, Message::Grant(grant))
    }

    /// Returns by how much a limit of the node grows, and what it is told; none if that can't be said yet.
    fn decide(&mut self, limit: Limit, desk: &mut Desk<'_>) -> Option<(u32, Verdict)> {
        self.newest?;
        if limit == Limit::Starts {
            return self.decide_starts(desk);
        }
        let book = &self.books[&desk.node];
        let (level, have) = (book.levels[limit], book.held[limit]);
        let target = level.used.saturating_add(book.wanted[limit]);
        let need = target.saturating_sub(have);
        let Some(total) = self.total(limit) else {
            self.stored.want(Duration::ZERO);
            return None;
        };
        let free = u32::try_from(u64::from(self.quota(limit)).saturating_sub(total)).unwrap_or(u32::MAX);
        let (least, most, verdict) = if need <= free {
            (need, need + self.spare(limit, free - need, target, desk), Verdict::Granted)
        } else {
            let recall = self.recalled(limit, desk)?;
            let asked = self.books[&desk.node].asked_at[limit]?.max(recall.done_at());
            if limit == Limit::Sessions && !self.stored.is_since(asked) {
                self.stored.want(asked);
                return None;
            }
            (free, free, if recall.failed() { Verdict::Unknown } else { Verdict::AtLimit })
        };
        let grown = self.durable(limit, (have, least, most), verdict, desk)?;
        if grown > 0 {
            // It may be idle there now, which it was not when everybody was asked.
            self.recalls.forget(limit);
        }
        // INVARIANT Q1: a limit that is below what is used stays there until something is free: what ends frees no place.
        let raised = if grown == 0 { 0 } else { (have + grown).saturating_sub(level.limit) };
        Some((raised, verdict))
    }

    /// Returns how much more than it needs a node is given, so that it need not ask soon.
    fn spare(&self, limit: Limit, free: u32, target: u32, desk: &Desk<'_>) -> u32 {
        let others = || self.books.iter().filter(|(node, _)| **node != desk.node);
        if others().any(|(_, book)| book.asked_at[limit].is_some()) {
            return 0;
        }
        let alone = !others().any(|(_, book)| book.may_idle(limit, desk.now));
        let share = if alone { free } else { free / 2 };
        share.min(target.max(CHUNK))
    }

    /// Returns by how much a node's limit may grow by what the store knows, from what it has; none if the store must be told
    /// first.
    fn durable(
        &self,
        limit: Limit,
        (have, least, most): (u32, u32, u32),
        verdict: Verdict,
        desk: &mut Desk<'_>,
    ) -> Option<u32> {
        let book = &self.books[&desk.node];
        let mut wish = self.ceiling(desk.node).unwrap_or_default();
        let known = wish;
        wish.held[limit] = wish.held[limit].max(have + most);
        if limit == Limit::Calls && verdict == Verdict::Granted {
            wish.longest = wish.longest.max(book.longest).max(book.wanted_longest);
        }
        if known.longest >= wish.longest && known.held[limit] >= have + least {
            return Some(most.min(known.held[limit] - have));
        }
        let entry = desk.wishes.entry(desk.node).or_default();
        *entry = entry.max(wish);
        None
    }

    fn decide_starts(&mut self, desk: &mut Desk<'_>) -> Option<(u32, Verdict)> {
        // INVARIANT Q1: whoever may start a call is in the store, so that a later home knows that the burst may be spent.
        self.ceiling(desk.node).filter(|ceiling| ceiling.held[Limit::Calls] > 0)?;
        let rate = self.quota(Limit::Starts);
        let available = self.bucket.available(rate, desk.now);
        if available == 0 {
            // What could not be recalled has gone stale meanwhile.
            self.recalled(Limit::Starts, desk)?;
            return Some((0, Verdict::AtLimit));
        }
        let others = self.books.iter().filter(|(node, _)| **node != desk.node);
        let alone = !others.map(|(_, book)| book).any(|book| book.may_idle(Limit::Starts, desk.now));
        let share = if alone { available } else { available / 2 };
        let book = self.books.get_mut(&desk.node)?;
        // Enough for a tenth of a second.
        let count = available.min(share.min(rate / 10).max(book.wanted[Limit::Starts]));
        self.bucket.take(rate, count, desk.now);
        book.starts_at = Some(desk.now);
        self.started_at = Some(desk.now);
        self.recalls.forget(Limit::Starts);
        Some((count, Verdict::Granted))
    }

    /// Returns the recall of what the others do not use, if it has ended; begins one otherwise.
    fn recalled(&mut self, limit: Limit, desk: &mut Desk<'_>) -> Option<Recall> {
        let asked = self.books[&desk.node].asked_at[limit]?;
        if let Some(recall) = self.recalls.since(limit, asked) {
            return recall.is_done().then(|| recall.clone());
        }
        let others = self.books.iter().filter(|(node, _)| **node != desk.node);
        let idle = others.filter(|(_, book)| book.may_idle(limit, desk.now)).map(|(node, _)| *node);
        let idle: BTreeSet<_> = idle.collect();
        self.round += 1;
        let recall = self.recalls.begin(limit, idle, self.round, desk.now).clone();
        for (node, recalled, round) in self.recalls.waiting(limit) {
            desk.effects.push(self.collect(node, recalled, round));
        }
        recall.is_done().then_some(recall)
    }

    /// Returns the most that a node may be granted now: what the store has, and will have.
    fn ceiling(&self, node: Incarnation) -> Option<Ceiling> {
        let kept = *self.kept.get(&node)?;
        match &self.writing {
            None => Some(kept),
            Some(writing) => Some(kept.min(writing.get(&node).copied().unwrap_or_default())),
        }
    }

    fn write(&mut self, wishes: &Ceilings) -> Effect {
        let mut ceilings = Ceilings::new();
        for (node, book) in &self.books {
            let wish = wishes.get(node).copied().unwrap_or_default();
            let ceiling = book.ceiling().max(wish);
            if !ceiling.is_zero() {
                ceilings.insert(*node, ceiling);
            }
        }
        self.writing = Some(ceilings.clone());
        Effect::Write(ceilings)
    }

    /// Lowers the ceilings that are far above what is held.
    fn tidy(&mut self, now: Duration) -> Option<Effect> {
        let changed = self.started_at.map_or(self.written_at, |started| started.max(self.written_at));
        if self.writing.is_some() || now < changed + TIDY {
            return None;
        }
        let too_high = |(node, kept): (&Incarnation, &Ceiling)| match self.books.get(node) {
            None => true,
            Some(book) => Limit::LEVELS.iter().any(|limit| {
                let held = book.held[*limit];
                (held == 0 && kept.held[*limit] > 0) || kept.held[*limit] / 4 > held.max(CHUNK)
            }),
        };
        self.kept.iter().any(too_high).then(|| self.write(&Ceilings::new()))
    }
}

/// What one decision is about, and where it leaves what it needs.
struct Desk<'a> {
    node: Incarnation,
    now: Duration,
    effects: &'a mut Vec<Effect>,
    wishes: &'a mut Ceilings,
}
