use std::time::Duration;

use aesp_proto::v1::ToolCall;
use tokio::time::Instant;

/// Calls that came while the node was in doubt. They begin when it has shown that it is itself, and are refused when it does
/// not in time: a node that was only slow costs them one exchange. Until then they count as not received.
#[derive(Debug)]
pub(super) struct HeldCalls {
    limit: usize,
    calls: Vec<(Instant, ToolCall)>,
    until: Option<Instant>,
}

impl HeldCalls {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, calls: Vec::new(), until: None }
    }

    /// Holds a call for `patience` at most.
    ///
    /// # Errors
    /// The call, if too many are held.
    pub(super) fn hold(&mut self, now: Instant, patience: Duration, call: ToolCall) -> Result<(), ToolCall> {
        if self.calls.len() >= self.limit {
            return Err(call);
        }
        self.calls.push((now, call));
        self.until.get_or_insert(now + patience);
        Ok(())
    }

    /// When the patience with the oldest is over.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Takes all calls out, in their order, each with the time that it has left.
    pub(super) fn take(&mut self, now: Instant) -> Vec<ToolCall> {
        self.until = None;
        let left = |(since, mut call): (Instant, ToolCall)| {
            if call.deadline_ms > 0 {
                let held = now.saturating_duration_since(since).as_millis();
                let held = u32::try_from(held).unwrap_or(u32::MAX);
                call.deadline_ms = call.deadline_ms.saturating_sub(held).max(1);
            }
            call
        };
        self.calls.drain(..).map(left).collect()
    }

    /// Takes out a call that is cancelled.
    pub(super) fn remove(&mut self, dispatch_id: &[u8]) -> Option<ToolCall> {
        let place = self.calls.iter().position(|(_, call)| call.dispatch_id == dispatch_id)?;
        let (_, call) = self.calls.remove(place);
        if self.calls.is_empty() {
            self.until = None;
        }
        Some(call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(n: u8) -> ToolCall {
        ToolCall { dispatch_id: vec![n; 16], deadline_ms: 1_000, ..ToolCall::default() }
    }

    #[test]
    fn held_calls_are_bounded_and_lose_the_time_that_they_were_held() {
        let (now, patience) = (Instant::now(), Duration::from_millis(400));
        let mut held = HeldCalls::new(2);
        assert!(held.hold(now, patience, call(1)).is_ok());
        let later = now + Duration::from_millis(300);
        assert!(held.hold(later, patience, call(2)).is_ok());
        assert_eq!(held.hold(later, patience, call(3)), Err(call(3)));
        assert_eq!(held.until(), Some(now + patience), "the oldest counts");
        assert_eq!(held.remove(&[2; 16]), Some(call(2)));
        assert_eq!(held.remove(&[2; 16]), None);
        let taken = held.take(later);
        assert_eq!(taken.iter().map(|call| call.deadline_ms).collect::<Vec<_>>(), [700]);
        assert!(held.is_empty() && held.until().is_none());
    }
}
