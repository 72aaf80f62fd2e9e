use std::sync::Arc;

use aesp_audit::{Receipt, Refused};
use aesp_proto::{
    DispatchId, Error, ErrorCode,
    v1::{EventType, InvokeRequest, InvokeResponse, Outcome},
};

use crate::{
    Caller, Calls,
    access::event_of,
    admitted::Admitted,
    dispatched::Running,
    ending::{Ending, Reply, is_denial},
    request::CallRequest,
    reserved::Reserved,
    streamed::{Parts, Streamed},
    validated::Permitted,
};

impl Calls {
    /// Makes a call and returns its recorded answer.
    ///
    /// # Errors
    /// The refusal, after its record is durable.
    pub async fn invoke(&self, caller: Caller, request: InvokeRequest) -> Result<InvokeResponse, Error> {
        let (invocation_id, correlation_id, reply) = self.start(caller, request, None).await?;
        Ok(InvokeResponse {
            invocation_id,
            correlation_id,
            result: Some(reply.result),
            event_id: reply.event.to_string(),
            replayed: reply.replayed,
            receipt: reply.receipt.as_ref().map(Receipt::to_wire),
        })
    }

    /// Takes a call through its stages. Returns its ids with the reply.
    pub(crate) async fn start(
        &self,
        caller: Caller,
        request: InvokeRequest,
        parts: Option<Parts>,
    ) -> Result<(String, String, Reply), Error> {
        let default = caller.source().correlation_id.clone();
        let request = match CallRequest::parse(request, &default) {
            Ok(request) => request,
            Err(error) => return Err(Box::pin(self.refuse_unadmitted(&caller, None, error)).await),
        };
        let ids = (request.invocation.as_str().to_owned(), request.correlation_id.clone());
        let reply = self.through(caller, request, parts).await.map_err(|error| error.correlated(&ids.1))?;
        Ok((ids.0, ids.1, reply))
    }

    async fn through(
        &self,
        caller: Caller,
        request: CallRequest,
        parts: Option<Parts>,
    ) -> Result<Reply, Error> {
        let admitted = match self.admit(caller.clone(), request.clone()).await {
            Ok(admitted) => admitted,
            Err(error) => return Err(Box::pin(self.refuse_unadmitted(&caller, Some(&request), error)).await),
        };
        let permitted = match self.validated(admitted).and_then(|validated| validated.permit(self)) {
            Ok(permitted) => permitted,
            Err(refused) => {
                let (admitted, error) = *refused;
                return Err(Box::pin(self.refuse(&admitted, error)).await);
            }
        };
        let (permitted, running) = match permitted.reserve(self).await {
            Ok(Reserved::Run(permitted, running)) => (permitted, running),
            Ok(Reserved::Replay(permitted, reply)) => return Box::pin(self.answer(permitted, *reply)).await,
            Err((permitted, error)) => {
                return Err(Box::pin(self.refuse(&permitted.validated.admitted, error)).await);
            }
        };
        // The call belongs to the Host from here: a client that leaves cancels it, and its end is recorded all the same.
        let cancel = running.cancellation();
        let leaves = cancel.clone().drop_guard();
        let calls = self.clone();
        let task = self.tasks().spawn(async move { calls.complete(permitted, running, parts).await });
        let completed = task.await;
        leaves.disarm();
        match completed {
            Ok((permitted, Ok(reply))) => self.answer(permitted, reply).await,
            Ok((_, Err(error))) => Err(error),
            Err(panic) => Err(Error::internal(panic)),
        }
    }

    /// Runs the call to its recorded end.
    async fn complete(
        &self,
        mut permitted: Box<Permitted>,
        running: aesp_session::Running,
        parts: Option<Parts>,
    ) -> (Box<Permitted>, Result<Reply, Error>) {
        let dispatch = DispatchId::random(&self.access().entropy);
        if permitted.needs_intent() {
            match Box::pin(permitted.intend(self, &running, dispatch)).await {
                Ok(None) => {}
                Ok(Some(earlier)) => return (permitted, Ok(earlier)),
                Err(error) => {
                    let error = Box::pin(self.refuse(&permitted.validated.admitted, error)).await;
                    return (permitted, Err(error));
                }
            }
        }
        let intended = permitted.needs_intent().then_some(dispatch);
        let (cancel, fence) = (running.cancellation(), running.fence());
        let mut run = Running {
            calls: self,
            permitted: &mut permitted,
            cancel,
            fence,
            parts,
            dispatch,
            intended,
            attempts: 0,
            sent: false,
            holder: None,
            streamed: Streamed::default(),
        };
        let (ending, attempt) = run.run().await;
        let keep = !matches!(ending, Ending::Unknown(_));
        let recorded = run.record(ending).await;
        if let Some(attempt) = attempt
            && keep
            && !recorded.as_ref().is_err_and(|error| error.code() == ErrorCode::ServiceUnavailable)
        {
            attempt.acknowledge();
        }
        // Whoever joined looks for the outcome now.
        drop(running);
        (permitted, recorded)
    }

    /// Answers, if the right still holds at this moment.
    ///
    /// INVARIANT R1: the last hop decides again when rights have changed since the permit.
    async fn answer(&self, mut permitted: Box<Permitted>, mut reply: Reply) -> Result<Reply, Error> {
        let (mut recorded, mut due) = (permitted.permit.decision(), reply.replayed);
        loop {
            if let Err(error) = permitted.recheck(self).await {
                let mut event =
                    self.event(&permitted, EventType::Authorization, "tool.answer", Outcome::Denied);
                event.details.reason = format!("{}: withheld", error.code().as_str_name());
                Box::pin(self.recorder().append(vec![event])).await?;
                return Err(error);
            }
            if !due && recorded == permitted.permit.decision() {
                let right = (Arc::clone(&permitted.validated.admitted.view), Arc::clone(&permitted.standing));
                return Ok(Reply { right: Some(right), ..reply });
            }
            let event = self.event(&permitted, EventType::DataAccess, "tool.answer", Outcome::Success);
            let receipt = Box::pin(self.recorder().append_with_receipt(event)).await?;
            if reply.replayed {
                reply.receipt = Some(receipt);
            }
            // Rights may have changed while this was written.
            (due, recorded) = (false, permitted.permit.decision());
        }
    }

    /// Records the refusal of a call, then hands it back; when the record fails, that is the answer instead.
    pub(crate) async fn refuse(&self, admitted: &Admitted, error: Error) -> Error {
        let outcome = if is_denial(error.code()) { Outcome::Denied } else { Outcome::Failure };
        let mut event = self.event_of(admitted, EventType::ToolInvocation, "tool.invoke", outcome);
        event.decision = error.decision_id().and_then(|id| id.parse().ok());
        event.details.reason = format!("{}: {}", error.code().as_str_name(), error.message());
        event.details.arguments = Some(admitted.request.arguments.clone());
        match self.recorder().append(vec![event]).await {
            Ok(()) => error,
            Err(unrecorded) => unrecorded.into(),
        }
    }

    /// As [`Calls::refuse`], for a call without a session. What is refused for load is only counted: a record of each would
    /// be more load.
    pub(crate) async fn refuse_unadmitted(
        &self,
        caller: &Caller,
        request: Option<&CallRequest>,
        error: Error,
    ) -> Error {
        let tenant = caller.tenant();
        let load = [ErrorCode::RateLimitExceeded, ErrorCode::QuotaExceeded, ErrorCode::ResourceUnavailable];
        if load.contains(&error.code()) {
            self.recorder().observe_refused(Refused {
                source_ip: caller.source().ip,
                action: "tool.invoke".into(),
                reason: error.code().as_str_name().into(),
                tenant: Some(tenant),
            });
            return error;
        }
        let outcome = if is_denial(error.code()) { Outcome::Denied } else { Outcome::Failure };
        let kind = EventType::ToolInvocation;
        let mut event = event_of(&self.access().entropy, caller, tenant, kind, "tool.invoke", outcome);
        event.details.reason = format!("{}: {}", error.code().as_str_name(), error.message());
        if let Some(request) = request {
            event.details.resource = format!("tool:{}", request.tool);
            event.details.invocation_id = request.invocation.as_str().to_owned();
            event.details.fields.push(("session".into(), request.session.to_string()));
        }
        match self.recorder().append(vec![event]).await {
            Ok(()) => error,
            Err(unrecorded) => unrecorded.into(),
        }
    }
}
