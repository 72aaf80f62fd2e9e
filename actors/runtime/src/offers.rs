use std::{collections::HashSet, fmt, sync::Arc};

use aesp_proto::{
    SessionId, TenantId,
    v1::{ContractDraft, RejectedTool},
};

use crate::{Directory, Dispatch, terms::Terms};

/// The most tools that one connection may offer.
pub(crate) const MAX_OFFERS: usize = 4096;
const MAX_TOOL_TEXT_BYTES: usize = 160;

/// A contract that a connection fulfils for a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Offer {
    pub(crate) tenant: TenantId,
    pub(crate) name: Arc<str>,
    pub(crate) version: Arc<str>,
    /// For one session only.
    pub(crate) session: Option<SessionId>,
    /// Registered by the Runtime itself, in DEVELOPMENT mode.
    pub(crate) development: bool,
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)?;
        if self.development { f.write_str(" (development)") } else { Ok(()) }
    }
}

/// What the Runtime asked to fulfil. Without a version it follows the active one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wish {
    name: String,
    version: Option<String>,
    session: Option<SessionId>,
}

#[derive(Clone, Debug)]
pub(crate) struct DevelopmentTool {
    pub(crate) tenant: TenantId,
    pub(crate) session: SessionId,
    pub(crate) draft: Arc<ContractDraft>,
}

/// What changed in the table of who fulfils what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) added: Vec<Offer>,
    pub(crate) removed: Vec<Offer>,
}

/// What one connection offers, and what of it the Host lets it fulfil.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    wishes: Vec<Wish>,
    tools: Vec<DevelopmentTool>,
    granted: HashSet<Offer>,
}

impl Offers {
    /// Tells whether a dispatch is still covered.
    pub(crate) fn cover(&self, dispatch: &Dispatch) -> bool {
        self.grants(
            dispatch.tenant,
            dispatch.session,
            &dispatch.name,
            &dispatch.version,
            dispatch.development,
        )
    }

    pub(crate) fn grants(
        &self,
        tenant: TenantId,
        session: SessionId,
        name: &Arc<str>,
        version: &Arc<str>,
        development: bool,
    ) -> bool {
        let (name, version) = (Arc::clone(name), Arc::clone(version));
        let mut offer = Offer { tenant, name, version, session: None, development };
        if self.granted.contains(&offer) {
            return true;
        }
        offer.session = Some(session);
        self.granted.contains(&offer)
    }

    pub(crate) fn granted(&self) -> Vec<Offer> {
        self.granted.iter().cloned().collect()
    }

    pub(crate) fn development_tools(&self) -> &[DevelopmentTool] {
        &self.tools
    }

    /// Takes the wish to fulfil `text` ("name" or "name@version").
    ///
    /// # Errors
    /// The reason for the Runtime's operator.
    pub(crate) fn wish(
        &mut self,
        text: &str,
        session: Option<SessionId>,
        terms: &Terms,
        directory: &dyn Directory,
    ) -> Result<(), String> {
        let wish = Wish::parse(text, session)?;
        if !terms.registration.allows_contract(&wish.name) {
            return Err("the Runtime is not registered for this contract".to_owned());
        }
        let mut refused = String::new();
        let mut fulfilled = false;
        for &tenant in &terms.tenants {
            match directory.contract(tenant, &wish.name, wish.version.as_deref()) {
                Ok(_) => fulfilled = true,
                Err(reason) => refused = reason,
            }
        }
        if !fulfilled {
            return Err(refused);
        }
        if !self.wishes.contains(&wish) {
            if self.wishes.len() + self.tools.len() >= MAX_OFFERS {
                return Err(format!("a connection offers at most {MAX_OFFERS} tools"));
            }
            self.wishes.push(wish);
        }
        Ok(())
    }

    /// Takes a wish back; a name without a version takes back every version of it.
    pub(crate) fn withdraw(&mut self, text: &str) {
        let (name, version) = split(text);
        let meant = |own: &str, own_version: Option<&str>| {
            own == name && (version.is_none() || version == own_version)
        };
        self.wishes.retain(|wish| !meant(&wish.name, wish.version.as_deref()));
        self.tools.retain(|tool| !meant(&tool.draft.name, Some(&tool.draft.version)));
    }

    /// Takes a tool that the Runtime declares itself, for one session.
    ///
    /// # Errors
    /// The reason for the Runtime's operator.
    pub(crate) fn register(
        &mut self,
        draft: ContractDraft,
        session: SessionId,
        terms: &Terms,
        directory: &dyn Directory,
    ) -> Result<(), String> {
        let [tenant] = terms.tenants[..] else {
            return Err("announce one tenant_id to register tools".to_owned());
        };
        if !directory.development(tenant) {
            return Err(
                "the tenant is in STRICT mode: an administrator creates and activates contracts".to_owned()
            );
        }
        if !terms.registration.allows_contract(&draft.name) {
            return Err("the Runtime is not registered for this contract".to_owned());
        }
        directory.check_draft(tenant, session, &draft)?;
        let same = |tool: &DevelopmentTool| {
            tool.session == session && tool.draft.name == draft.name && tool.draft.version == draft.version
        };
        self.tools.retain(|tool| !same(tool));
        if self.wishes.len() + self.tools.len() >= MAX_OFFERS {
            return Err(format!("a connection offers at most {MAX_OFFERS} tools"));
        }
        self.tools.push(DevelopmentTool { tenant, session, draft: Arc::new(draft) });
        Ok(())
    }

    /// Works out again what may be fulfilled, and returns what changed.
    pub(crate) fn settle(&mut self, terms: &Terms, directory: &dyn Directory) -> Change {
        self.tools.retain(|tool| {
            terms.tenants == [tool.tenant]
                && terms.registration.allows_contract(&tool.draft.name)
                && directory.development(tool.tenant)
        });
        let mut granted = HashSet::new();
        for wish in self.wishes.iter().filter(|wish| terms.registration.allows_contract(&wish.name)) {
            for &tenant in &terms.tenants {
                if let Ok(contract) = directory.contract(tenant, &wish.name, wish.version.as_deref()) {
                    let (name, version) = (contract.name.into(), contract.version.into());
                    granted.insert(Offer {
                        tenant,
                        name,
                        version,
                        session: wish.session,
                        development: false,
                    });
                }
            }
        }
        granted.extend(self.tools.iter().map(|tool| Offer {
            tenant: tool.tenant,
            name: tool.draft.name.as_str().into(),
            version: tool.draft.version.as_str().into(),
            session: Some(tool.session),
            development: true,
        }));
        self.replace(granted)
    }

    /// Lets go of everything.
    pub(crate) fn clear(&mut self) -> Change {
        self.wishes.clear();
        self.tools.clear();
        self.replace(HashSet::new())
    }

    fn replace(&mut self, granted: HashSet<Offer>) -> Change {
        let added = granted.difference(&self.granted).cloned().collect();
        let removed = self.granted.difference(&granted).cloned().collect();
        self.granted = granted;
        Change { added, removed }
    }
}

impl Wish {
    fn parse(text: &str, session: Option<SessionId>) -> Result<Self, String> {
        let (name, version) = split(text);
        if text.len() > MAX_TOOL_TEXT_BYTES || name.is_empty() || version == Some("") {
            return Err("a tool is named \"name\" or \"name@version\"".to_owned());
        }
        Ok(Self { name: name.to_owned(), version: version.map(ToOwned::to_owned), session })
    }
}

fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    }
}

pub(crate) fn rejected(name: &str, reason: String) -> RejectedTool {
    RejectedTool { name: crate::terms::short(name.to_owned()), reason }
}
