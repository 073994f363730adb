//! A store whose thread is kept busy, so that what is begun meanwhile is done in one batch.

use std::{
    pin::Pin,
    sync::mpsc,
    task::{Context, Poll, Waker},
    thread,
};

use gemini_webhooks::store::{SqliteStore, StoreError};

use crate::block_on::block_on;

/// Hands it to the store without waiting for the answer.
pub(crate) fn begin<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Poll<T> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// A transaction that keeps the store's thread until this is dropped.
pub(crate) struct Occupied {
    end: Option<mpsc::Sender<()>>,
    done: Option<thread::JoinHandle<()>>,
}

impl Drop for Occupied {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(done) = self.done.take() {
            done.join().unwrap();
        }
    }
}

/// Returns once the store's thread is at work.
pub(crate) fn occupy(store: &SqliteStore) -> Occupied {
    let (end, ended) = mpsc::channel::<()>();
    let (at_work, is_at_work) = mpsc::channel();
    let store = store.clone();
    let done = thread::spawn(move || {
        let working = store.transaction::<(), StoreError>(move |_| {
            at_work.send(()).unwrap();
            let _ = ended.recv();
            Ok(())
        });
        // It must not be the last clone that waits here.
        block_on(working).unwrap();
    });
    is_at_work.recv().unwrap();
    Occupied {
        end: Some(end),
        done: Some(done),
    }
}
