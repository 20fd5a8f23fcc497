//! Many ask the same question at the same time: one answer serves all who asked before the asking of it began.
//!
//! An answer that was under way when somebody came may have been read before what he asks about, and is not for him.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// A question that many ask.
#[derive(Debug)]
pub(crate) struct Coalesced<T> {
    /// How many times it was begun to find the answer.
    begun: AtomicU64,
    /// Held while the answer is found: which time it was that ended well last, and the answer.
    ended: Mutex<(u64, Option<T>)>,
}

impl<T> Default for Coalesced<T> {
    fn default() -> Self {
        Self {
            begun: AtomicU64::new(0),
            ended: Mutex::new((0, None)),
        }
    }
}

impl<T: Clone> Coalesced<T> {
    /// The answer, found by `find` where nobody has begun to find one since this was called.
    ///
    /// # Errors
    /// Those of `find`. Whoever waited meanwhile finds the answer himself.
    pub(crate) async fn ask<E>(&self, find: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let begun = self.begun.load(Ordering::Acquire);
        let mut ended = self.ended.lock().await;
        if let (number, Some(answer)) = &*ended
            && *number > begun
        {
            return Ok(answer.clone());
        }
        let this = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let answer = find.await?;
        *ended = (this, Some(answer.clone()));
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn who_asks_meanwhile_gets_the_next_answer_and_all_of_them_the_same() {
        let (question, found) = (Coalesced::default(), Cell::new(0));
        let find = || async {
            found.set(found.get() + 1);
            let number = found.get();
            tokio::task::yield_now().await;
            Ok::<u32, Infallible>(number)
        };
        let answers = join_all((0..10).map(|_| question.ask(find()))).await;
        let answers: Vec<u32> = answers.into_iter().flatten().collect();
        assert_eq!(answers, [1, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
        assert_eq!(question.ask(find()).await, Ok(3), "an old answer is none");
    }

    #[tokio::test]
    async fn an_error_is_of_who_found_it() {
        let question = Coalesced::default();
        let answers = join_all((0..3).map(|n| {
            question.ask(async move {
                tokio::task::yield_now().await;
                if n == 2 { Ok(n) } else { Err(n) }
            })
        }))
        .await;
        assert_eq!(answers, [Err(0), Err(1), Ok(2)]);
    }
}
