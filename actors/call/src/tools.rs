use std::{collections::HashSet, sync::Arc, time::Duration};

use aesp_catalog::{Compiled, Contract};
use aesp_proto::{Error, SessionId, v1::ToolSummary};
use aesp_tenant::RuntimeMode;

use crate::{
    Caller, Calls, View,
    access::Granted,
    admitted::{Admitted, Refusal},
    validated::Validated,
};

impl Calls {
    /// Checks the arguments against the contract; in DEVELOPMENT mode one that a Runtime registered for this session, if the
    /// catalogue has none of the name.
    pub(crate) fn validated(&self, admitted: Admitted) -> Result<Validated, Refusal> {
        let request = &admitted.request;
        if admitted.view.catalog.find(&request.tool, request.version.as_deref()).is_none()
            && let Some(contract) = self.development_contract(&admitted)
        {
            return admitted.validate_against(contract);
        }
        admitted.validate()
    }

    fn development_contract(&self, admitted: &Admitted) -> Option<Arc<Compiled>> {
        if admitted.view.tenant.config().runtime_mode() != RuntimeMode::Development {
            return None;
        }
        let tools = self.runtimes().development_tools(admitted.caller.tenant(), admitted.session.id);
        let draft = tools.into_iter().find(|draft| draft.name == admitted.request.tool)?;
        let contract = Contract::development(&draft).ok()?;
        self.views().compiler().compile(&contract).ok()
    }

    /// Returns how long a tool may take that a Runtime registered for this session.
    pub(crate) fn development_timeout(
        &self,
        view: &View,
        session: SessionId,
        tool: &str,
    ) -> Option<Duration> {
        if view.tenant.config().runtime_mode() != RuntimeMode::Development {
            return None;
        }
        let tools = self.runtimes().development_tools(view.tenant.id(), session);
        let draft = tools.into_iter().find(|draft| draft.name == tool)?;
        Some(Duration::from_millis(draft.timeout_ms.into()))
    }

    /// Lists the tools that the caller may call now, and no others.
    ///
    /// # Errors
    /// Those of the view.
    pub async fn tools(&self, granted: &Granted, session: SessionId) -> Result<Vec<ToolSummary>, Error> {
        let caller = granted.caller();
        let view = self.views().get(caller.tenant()).await?;
        let offered: HashSet<_> = self.runtimes().fulfilled(caller.tenant()).into_iter().collect();
        let callable = view.catalog.defaults().filter(|contract| self.may_call(&view, caller, contract));
        let mut tools: Vec<_> = callable.map(|contract| summary(contract, &offered)).collect();
        if view.tenant.config().runtime_mode() == RuntimeMode::Development {
            for draft in self.runtimes().development_tools(caller.tenant(), session) {
                let compiled =
                    Contract::development(&draft).and_then(|own| self.views().compiler().compile(&own));
                let Ok(compiled) = compiled else { continue };
                let shadowed = view.catalog.find(&draft.name, None).is_some();
                if !shadowed && self.may_call(&view, caller, &compiled) {
                    // It is there because a Runtime registered it a moment ago.
                    tools.push(ToolSummary { available: true, ..summary(&compiled, &offered) });
                }
            }
        }
        Ok(tools)
    }

    /// Asks what [`Calls::invoke`] would ask, but for the arguments.
    fn may_call(&self, view: &View, caller: &Caller, compiled: &Compiled) -> bool {
        let resource = compiled.resource(caller.tenant());
        let context = self.access().context(caller, None);
        self.access().decide_in(view, caller, "tool.invoke", &resource, context).is_ok()
    }
}

fn summary(compiled: &Compiled, offered: &HashSet<String>) -> ToolSummary {
    let contract = compiled.contract();
    let version = contract.version().to_string();
    ToolSummary {
        name: contract.name().to_owned(),
        description: contract.description().to_owned(),
        parameters_json: contract.parameters().to_string().into_bytes(),
        return_type_json: contract.result().to_string().into_bytes(),
        supports_streaming: contract.supports_streaming(),
        effects: contract.effects().as_str().to_owned(),
        risk: contract.risk().as_str().to_owned(),
        classification: contract.classification().as_str().to_owned(),
        development: contract.is_development(),
        available: offered.contains(&format!("{}@{version}", contract.name())),
        version,
    }
}
