//! What happened: a journal in memory, read by cursors.
//!
//! The last 1024 events are kept, as Docker keeps its last 256: they end with the daemon. A
//! subscriber is a position in the journal, so a slow one costs nothing and misses only what has left
//! the journal. What must outlive the daemon is in the records, not here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use gantry_model::event::Event;
use gantry_model::filter::Filters;
use gantry_model::{ErrorKind, Timestamp};
use parking_lot::Mutex;
use tokio::sync::watch;

/// How many events are kept.
const KEPT: usize = 1024;

/// The journal. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    shared: Arc<Shared>,
}

struct Shared {
    journal: Mutex<Journal>,
    /// The number of the next event: rises with each, and wakes subscribers. Closed is the end.
    next: watch::Sender<u64>,
    subscribers: AtomicUsize,
}

#[derive(Default)]
struct Journal {
    /// The number of the first event that is kept.
    first: u64,
    kept: VecDeque<Arc<Event>>,
    closed: bool,
}

/// Which events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventQuery {
    /// From then on; `None` is from now on.
    pub since: Option<Timestamp>,
    /// Until then; `None` is forever.
    pub until: Option<Timestamp>,
    /// Docker's: `container`, `image`, `volume`, `network`, `daemon`, `type`, `event`, `label`, `scope`, ….
    pub filters: Filters,
}

/// A cursor.
pub struct Subscription {
    shared: Arc<Shared>,
    query: EventQuery,
    position: u64,
    wake: watch::Receiver<u64>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.subscribers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Subscription {
    /// The next event that matches; `None` when `until` has passed or the engine closes.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            let (event, closed) = self.take();
            match event {
                // Earlier ones may follow it: a clock can be set back.
                Some(event) if self.query.until.is_some_and(|until| event.time > until) => continue,
                Some(event) if self.query.since.is_some_and(|since| event.time < since) => continue,
                Some(event) if matches(&event, &self.query.filters) => return Some(event),
                Some(_) => continue,
                None if closed => return None,
                None => {}
            }
            let wait = self.query.until.map(|until| {
                let left = until.nanos().saturating_sub(now().nanos());
                std::time::Duration::from_nanos(u64::try_from(left).unwrap_or(0))
            });
            match wait {
                Some(wait) if wait.is_zero() => return None,
                // The end of the wait leads to one last look.
                Some(wait) => drop(tokio::time::timeout(wait, self.wake.changed()).await),
                None => self.wake.changed().await.ok()?,
            }
        }
    }

    fn take(&mut self) -> (Option<Arc<Event>>, bool) {
        self.wake.mark_unchanged();
        let journal = self.shared.journal.lock();
        self.position = self.position.max(journal.first);
        let index = usize::try_from(self.position - journal.first).unwrap_or(usize::MAX);
        let event = journal.kept.get(index).cloned();
        self.position += u64::from(event.is_some());
        (event, journal.closed)
    }
}

impl Events {
    pub(crate) fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                journal: Mutex::default(),
                next: watch::Sender::new(0),
                subscribers: AtomicUsize::new(0),
            }),
        }
    }

    /// Subscribes: nothing that happens from now on is missed. Unknown filters are ignored, as Docker does.
    ///
    /// # Errors
    /// None at present.
    pub fn subscribe(&self, query: EventQuery) -> Result<Subscription, Error> {
        let wake = self.shared.next.subscribe();
        let journal = self.shared.journal.lock();
        let end = journal.first + journal.kept.len() as u64;
        // Without `since`, Docker's stream starts now, unless only the past was asked for.
        let position = if query.since.is_some() || query.until.is_some_and(|until| until <= now()) {
            journal.first
        } else {
            end
        };
        drop(journal);
        self.shared.subscribers.fetch_add(1, Ordering::Relaxed);
        Ok(Subscription { shared: Arc::clone(&self.shared), query, position, wake })
    }

    /// Adds an event that happens now.
    pub fn publish(&self, kind: &str, action: &str, actor: &str, attributes: BTreeMap<String, String>) {
        let (kind, action, actor) = (kind.into(), action.into(), actor.into());
        let mut journal = self.shared.journal.lock();
        let event = Arc::new(Event { kind, action, actor, attributes, time: now() });
        if journal.kept.len() == KEPT {
            journal.kept.pop_front();
            journal.first += 1;
        }
        journal.kept.push_back(event);
        let end = journal.first + journal.kept.len() as u64;
        drop(journal);
        self.shared.next.send_replace(end);
    }

    /// How many subscribers there are.
    pub(crate) fn listeners(&self) -> usize {
        self.shared.subscribers.load(Ordering::Relaxed)
    }

    /// Ends all subscriptions.
    pub(crate) fn close(&self) {
        self.shared.journal.lock().closed = true;
        self.shared.next.send_modify(|_| ());
    }
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

fn matches(event: &Event, filters: &Filters) -> bool {
    let any = |key: &str, test: &dyn Fn(&str) -> bool| {
        let wanted = filters.get(key);
        wanted.is_empty() || wanted.iter().any(|wanted| test(wanted))
    };
    let actor = |key: &str| {
        any(key, &|wanted| {
            let name = event.attributes.get("name").map(String::as_str);
            // Docker takes a beginning of a name as well as one of an id, and of whatever has it.
            let named = name.is_some_and(|name| name.starts_with(wanted));
            event.actor.starts_with(wanted) || named
        })
    };
    // `exec_create` stands for `exec_create: sh -c true`.
    let action = |wanted: &str| {
        event.action == wanted || event.action.split_once(": ").is_some_and(|(first, _)| first == wanted)
    };
    let image = |wanted: &str| {
        let image = event.attributes.get(if event.kind == "image" { "name" } else { "image" });
        event.actor == wanted
            || image.is_some_and(|image| image == wanted || image.split(':').next() == Some(wanted))
    };
    any("type", &|wanted| event.kind == wanted)
        && any("event", &action)
        && any("image", &image)
        && any("scope", &|wanted| wanted == "local")
        && any("id", &|wanted| event.actor == wanted)
        && ["container", "network", "volume", "daemon", "plugin", "service", "node", "secret", "config"]
            .iter()
            .all(|key| actor(key))
        && filters.has_labels(&event.attributes)
}

/// Says that a filter is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid filter '{0}'")]
pub struct Error(pub String);

impl Error {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(pairs: &[(&str, &str)]) -> Filters {
        let mut filters = Filters::default();
        pairs.iter().for_each(|(key, value)| filters.add(*key, *value));
        filters
    }

    fn attributes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[tokio::test]
    async fn subscribers_see_what_they_asked_for_and_no_more() {
        let events = Events::new();
        let start = now();
        events.publish("image", "tag", "sha256:1", attributes(&[("name", "web:1")]));
        let mut live = events.subscribe(EventQuery::default()).expect("no filter");
        let query = |pairs: &[(&str, &str)]| EventQuery {
            since: Some(start),
            until: Some(Timestamp::from_nanos(now().nanos() + 50_000_000)),
            filters: filters(pairs),
        };
        let wanted = query(&[("type", "container"), ("event", "exec_create"), ("container", "we")]);
        let mut past = events.subscribe(wanted).expect("known filters");
        // Events know no `label!`, and what they do not know filters nothing.
        let mut without =
            events.subscribe(query(&[("label!", "tier"), ("event", "start")])).expect("ignored");
        let mut image = events.subscribe(query(&[("image", "web")])).expect("known filters");
        let of_web = attributes(&[("name", "web"), ("image", "web:1"), ("tier", "front")]);
        events.publish("container", "start", "c1", of_web.clone());
        events.publish("container", "exec_create: sh -c true", "c1", of_web);
        assert_eq!(live.next().await.map(|event| event.action.clone()).as_deref(), Some("start"));
        assert_eq!(past.next().await.map(|event| event.action.len()), Some(23));
        assert_eq!(past.next().await, None);
        assert_eq!(without.next().await.map(|event| event.actor.clone()).as_deref(), Some("c1"));
        assert_eq!(image.next().await.map(|event| event.kind.clone()).as_deref(), Some("image"));
        assert_eq!(image.next().await.map(|event| event.kind.clone()).as_deref(), Some("container"));
        events.close();
        assert!(live.next().await.is_some());
        assert_eq!(live.next().await, None);
    }

    #[tokio::test]
    async fn the_journal_forgets_the_oldest() {
        let events = Events::new();
        let since = Some(now());
        for number in 0..KEPT + 5 {
            events.publish("daemon", "reload", &number.to_string(), BTreeMap::new());
        }
        let query = EventQuery { since, until: None, filters: Filters::default() };
        let mut all = events.subscribe(query).expect("no filter");
        assert_eq!(all.next().await.map(|event| event.actor.clone()).as_deref(), Some("5"));
    }
}
