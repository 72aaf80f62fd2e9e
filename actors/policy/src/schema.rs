use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::OnceLock,
};

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, Schema, Validator};

/// The Cedar schema that policies are validated against, as it is published.
pub const SCHEMA: &str = include_str!("../aesp.cedarschema");

/// Actions that concern the platform as a whole, whatever resource they name: only its operators may do them.
pub(crate) const PLATFORM_ONLY: [&str; 20] = [
    "alert.operate",
    "audit.rotate_key",
    "authentication.rotate_key",
    "backup.operate",
    "backup.read",
    "cluster.admit",
    "cluster.operate",
    "cluster.read",
    "key.read",
    "key.rotate",
    "sink.operate",
    "sink.read",
    "tenant.create",
    "tenant.delete",
    "tenant.list",
    "tenant.resume",
    "tenant.suspend",
    "tenant.update",
    "witness.operate",
    "witness.read",
];

/// Actions that nobody does in another tenant but on behalf of one of its principals, operators of the platform included.
pub(crate) const HOME_ONLY: [&str; 4] = ["session.create", "session.renew", "tool.invoke", "tool.log_result"];

/// An action's place in [`Vocabulary::actions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ActionIndex(pub(crate) u16);

/// What an action applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Tenant,
    Session,
    Tool,
}

/// One action of the schema.
#[derive(Debug)]
pub(crate) struct Action {
    pub(crate) name: String,
    pub(crate) uid: EntityUid,
    pub(crate) target: Target,
    pub(crate) platform_only: bool,
    pub(crate) home_only: bool,
    /// With its groups as ancestors.
    pub(crate) entity: Entity,
}

/// The names of the schema, parsed once.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    pub(crate) validator: Validator,
    pub(crate) actions: Vec<Action>,
    by_name: HashMap<String, ActionIndex>,
    groups: BTreeMap<String, Vec<ActionIndex>>,
    pub(crate) principal: EntityTypeName,
    pub(crate) role: EntityTypeName,
    pub(crate) tenant: EntityTypeName,
    pub(crate) session: EntityTypeName,
    pub(crate) tool: EntityTypeName,
    pub(crate) tag: EntityTypeName,
    pub(crate) classification: EntityTypeName,
    pub(crate) holders: [EntityTypeName; 5],
}

/// Returns the vocabulary.
pub(crate) fn vocabulary() -> &'static Vocabulary {
    static VOCABULARY: OnceLock<Vocabulary> = OnceLock::new();
    VOCABULARY.get_or_init(Vocabulary::read)
}

/// Returns the uid of the entity of this type and name.
pub(crate) fn uid(kind: &EntityTypeName, name: impl AsRef<str>) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(name))
}

impl Vocabulary {
    fn read() -> Self {
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).expect("the published schema is tested");
        let named = |name: &str| -> EntityTypeName { name.parse().expect("a literal of the schema") };
        let (session, tool) = (named("AESP::Session"), named("AESP::Tool"));
        let entities = schema.action_entities().expect("the published schema is tested");
        let groups: HashSet<EntityUid> = schema.action_groups().cloned().collect();

        let mut actions: Vec<Action> = schema
            .actions()
            .filter(|uid| !groups.contains(uid))
            .map(|uid| {
                let name = uid.id().unescaped().to_owned();
                let resources: Vec<_> = schema.resources_for_action(uid).into_iter().flatten().collect();
                let target = match resources[..] {
                    [kind] if *kind == tool => Target::Tool,
                    [kind] if *kind == session => Target::Session,
                    _ => Target::Tenant,
                };
                let ancestors = entities.ancestors(uid).into_iter().flatten().cloned().collect();
                Action {
                    platform_only: PLATFORM_ONLY.contains(&name.as_str()),
                    home_only: HOME_ONLY.contains(&name.as_str()),
                    entity: Entity::new_no_attrs(uid.clone(), ancestors),
                    uid: uid.clone(),
                    name,
                    target,
                }
            })
            .collect();
        actions.sort_by(|a, b| a.name.cmp(&b.name));

        let index = |position: usize| ActionIndex(u16::try_from(position).expect("far fewer actions"));
        let by_name = actions.iter().enumerate().map(|(i, a)| (a.name.clone(), index(i))).collect();
        let mut members: BTreeMap<String, Vec<ActionIndex>> =
            groups.iter().map(|group| (group.id().unescaped().to_owned(), Vec::new())).collect();
        for (position, action) in actions.iter().enumerate() {
            for group in entities.ancestors(&action.uid).into_iter().flatten() {
                members.entry(group.id().unescaped().to_owned()).or_default().push(index(position));
            }
        }

        Self {
            validator: Validator::new(schema),
            actions,
            by_name,
            groups: members,
            principal: named("AESP::Principal"),
            role: named("AESP::Role"),
            tenant: named("AESP::Tenant"),
            session,
            tool,
            tag: named("AESP::Tag"),
            classification: named("AESP::Classification"),
            holders: ["Strings", "Longs", "Booleans", "Decimals", "Sets"]
                .map(|holder| named(&format!("AESP::{holder}"))),
        }
    }

    /// Returns the action with this id.
    pub(crate) fn action(&self, name: &str) -> Option<(ActionIndex, &Action)> {
        let index = *self.by_name.get(name)?;
        Some((index, &self.actions[usize::from(index.0)]))
    }

    /// Returns every action.
    pub(crate) fn all(&self) -> impl Iterator<Item = ActionIndex> {
        self.by_name.values().copied()
    }

    /// Returns the action of this id, or the members of the group of this name; nothing when there is neither.
    pub(crate) fn members(&self, name: &str) -> Vec<ActionIndex> {
        match self.by_name.get(name) {
            Some(index) => vec![*index],
            None => self.groups.get(name).cloned().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aesp_proto::{Access, Operations};

    use super::*;

    #[test]
    fn the_schema_has_exactly_the_actions_that_the_services_declare() {
        let operations = Operations::load();
        // No policy decides about the links between nodes: their certificates do.
        let declared: BTreeSet<_> = operations
            .iter()
            .filter(|(_, operation)| operation.access != Access::Peer)
            .map(|(_, operation)| operation.action.as_str())
            .collect();
        let published: BTreeSet<_> = vocabulary().actions.iter().map(|a| a.name.as_str()).collect();
        assert_eq!(declared, published);
    }

    #[test]
    fn groups_have_the_members_that_their_names_promise() {
        let vocabulary = vocabulary();
        let holds = |group: &str, action: &Action| {
            let index = vocabulary.action(&action.name).expect("exists").0;
            vocabulary.members(group).contains(&index)
        };
        for action in &vocabulary.actions {
            let (service, verb) = action.name.split_once('.').expect("a dot");
            assert!(holds(&format!("{service}.*"), action), "{}", action.name);
            assert_eq!(holds("*.read", action), verb == "read", "{}", action.name);
            assert_eq!(holds("*.list", action), verb == "list", "{}", action.name);
        }
    }

    #[test]
    fn the_lists_of_special_actions_name_real_ones() {
        for name in PLATFORM_ONLY.iter().chain(&HOME_ONLY) {
            assert!(vocabulary().action(name).is_some(), "{name}");
        }
    }
}
