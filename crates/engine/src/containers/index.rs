//! Where tasks and views are found: by id, by name, by prefix of an id.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gantry_model::ContainerId;
use parking_lot::RwLock;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::record::View;
use super::task::Message;
use super::{Error, supervise};

/// How long a start waits for clients that were told that they are attached.
const PATIENCE: Duration = Duration::from_secs(1);

/// One container: the way to its task, and its present view.
pub(crate) struct Entry {
    /// Which.
    pub(crate) id: ContainerId,
    mailbox: UnboundedSender<Message>,
    /// Clients that were told that they are attached and have no place yet.
    coming: watch::Sender<usize>,
    /// The container is gone for good.
    removed: AtomicBool,
    view: RwLock<Arc<View>>,
    /// Held by a start until its process runs, and by whoever mounts the snapshot of a container that does not
    /// run: overlay allows one user of an upper directory at a time.
    pub(super) rest: Arc<tokio::sync::Mutex<()>>,
}

impl Entry {
    pub(crate) fn new(mailbox: UnboundedSender<Message>, view: View) -> Self {
        Self {
            id: view.record.id.clone(),
            mailbox,
            coming: watch::Sender::new(0),
            removed: AtomicBool::new(false),
            view: RwLock::new(Arc::new(view)),
            rest: Arc::default(),
        }
    }

    /// Announces a client that is about to attach.
    pub(super) fn expect_client(self: &Arc<Self>) -> Coming {
        self.coming.send_modify(|clients| *clients += 1);
        Coming(Arc::clone(self))
    }

    /// Waits until each client that was told that it is attached has its place, or a second.
    pub(super) async fn clients_have_come(&self) {
        let mut coming = self.coming.subscribe();
        let all = coming.wait_for(|clients| *clients == 0);
        // One that takes longer than this is late, as it may be after the start too.
        let _ = tokio::time::timeout(PATIENCE, all).await;
    }

    /// The present view.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read())
    }

    /// Replaces the view; only the container's task does.
    pub(super) fn set_view(&self, view: View) {
        *self.view.write() = Arc::new(view);
    }

    /// Puts a message into the mailbox.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`] if it was removed meanwhile; [`Error::Closing`] if its task has ended
    /// otherwise, as all do when the engine closes.
    pub(super) fn tell(&self, message: Message) -> Result<(), Error> {
        self.mailbox.send(message).map_err(|_| self.lost())
    }

    /// Why its task dropped a caller, or takes no message any more.
    pub(super) fn lost(&self) -> Error {
        if self.removed.load(Ordering::Acquire) {
            Error::NoSuchContainer(self.id.to_string())
        } else if self.mailbox.is_closed() {
            Error::Closing
        } else {
            supervise::defect()
        }
    }
}

/// A client that is about to attach, until dropped.
pub(super) struct Coming(Arc<Entry>);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.coming.send_modify(|clients| *clients -= 1);
    }
}

/// All containers. Locks are held for a look-up only.
#[derive(Default)]
pub(crate) struct Index {
    tables: RwLock<Tables>,
}

#[derive(Default)]
struct Tables {
    by_id: BTreeMap<ContainerId, Arc<Entry>>,
    names: HashMap<String, ContainerId>,
}

impl Index {
    /// Finds by full id, by name with or without slash, or by an unambiguous prefix of an id.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::Ambiguous`].
    pub(crate) fn find(&self, text: &str) -> Result<Arc<Entry>, Error> {
        let missing = || Error::NoSuchContainer(text.into());
        if text.is_empty() {
            return Err(Error::Invalid("container name or ID cannot be empty".into()));
        }
        let tables = self.tables.read();
        if let Some(entry) = text.parse().ok().and_then(|id: ContainerId| tables.by_id.get(&id)) {
            return Ok(Arc::clone(entry));
        }
        if let Some(id) = tables.names.get(text.strip_prefix('/').unwrap_or(text)) {
            return tables.by_id.get(id).cloned().ok_or_else(missing);
        }
        if text.len() > 64 || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(missing());
        }
        // Ids have 64 digits, so filling up with zeros gives the smallest with this prefix.
        let first: ContainerId = format!("{text:0<64}").parse().map_err(|_| missing())?;
        let mut matching = tables
            .by_id
            .range((Bound::Included(first), Bound::Unbounded))
            .take_while(|(id, _)| id.as_str().starts_with(text));
        let (_, entry) = matching.next().ok_or_else(missing)?;
        if matching.next().is_some() {
            return Err(Error::Ambiguous(text.into()));
        }
        Ok(Arc::clone(entry))
    }

    /// All entries, in the order of their ids.
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        self.tables.read().by_id.values().cloned().collect()
    }

    /// All views, in the order of their ids.
    pub(crate) fn views(&self) -> Vec<Arc<View>> {
        self.all().iter().map(|entry| entry.view()).collect()
    }

    pub(super) fn insert(&self, entry: Arc<Entry>) {
        let name = entry.view().record.name.clone();
        let mut tables = self.tables.write();
        tables.names.insert(name, entry.id.clone());
        tables.by_id.insert(entry.id.clone(), entry);
    }

    pub(super) fn remove(&self, id: &ContainerId) {
        let mut tables = self.tables.write();
        if let Some(entry) = tables.by_id.remove(id) {
            entry.removed.store(true, Ordering::Release);
            tables.names.remove(&entry.view().record.name);
        }
    }

    pub(super) fn rename(&self, id: &ContainerId, from: &str, to: &str) {
        let mut tables = self.tables.write();
        tables.names.remove(from);
        tables.names.insert(to.into(), id.clone());
    }
}
