//! The events that a policy may handle, and the ones it may know from KumoMTA that nothing fires here.
//!
//! An event that would never fire is refused when it is registered: a handler that is never called looks like a working one.

/// What a policy can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Once at start, before `init`; any number of handlers.
    PreInit,
    /// Once at start: listeners, spool and logs are named here.
    Init,
    /// For each message, before it is accepted.
    MessageReceived,
    /// For each scheduled queue; handlers are asked in turn until one answers.
    QueueConfig,
    /// For each egress path.
    EgressPathConfig,
    /// For each egress pool that a queue names.
    EgressPool,
    /// For each egress source that a pool names.
    EgressSource,
    /// For a client that shows user and password.
    AuthPlain,
    /// For a client that wants to prove that it knows a user's password.
    AuthScram,
    /// For a domain of which it is not clear whether mail to it or from it is taken.
    ListenerDomain,
}

impl Event {
    /// Every event, each at the place of its number.
    pub(super) const ALL: [Self; 10] = [
        Self::PreInit,
        Self::Init,
        Self::MessageReceived,
        Self::QueueConfig,
        Self::EgressPathConfig,
        Self::EgressPool,
        Self::EgressSource,
        Self::AuthPlain,
        Self::AuthScram,
        Self::ListenerDomain,
    ];

    /// The name given to `kumo.on`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::PreInit => "pre_init",
            Self::Init => "init",
            Self::MessageReceived => "smtp_server_message_received",
            Self::QueueConfig => "get_queue_config",
            Self::EgressPathConfig => "get_egress_path_config",
            Self::EgressPool => "get_egress_pool",
            Self::EgressSource => "get_egress_source",
            Self::AuthPlain => "smtp_server_auth_plain",
            Self::AuthScram => "smtp_server_auth_scram",
            Self::ListenerDomain => "get_listener_domain",
        }
    }

    /// Whether more than one handler may be registered.
    pub(super) const fn takes_many(self) -> bool {
        matches!(self, Self::PreInit | Self::QueueConfig)
    }

    /// Finds an event by its name.
    ///
    /// # Errors
    /// Says whether the name is KumoMTA's, and lists what there is.
    pub(super) fn find(name: &str) -> Result<Self, String> {
        if let Some(event) = Self::ALL.into_iter().find(|event| event.name() == name) {
            return Ok(event);
        }
        let known = Self::ALL.map(Self::name).join(", ");
        if KUMOMTA_ONLY.contains(&name) {
            Err(format!("event '{name}' is not available in this version; available are: {known}"))
        } else {
            Err(format!("there is no event '{name}'; available are: {known}"))
        }
    }
}

/// KumoMTA's other events.
const KUMOMTA_ONLY: [&str; 26] = [
    "get_acl_definition",
    "http_message_generated",
    "http_server_validate_auth_basic",
    "main",
    "proxy_init",
    "proxy_server_auth_rfc1929",
    "rebind_message",
    "requeue_message",
    "should_enqueue_log_record",
    "shutdown_logging",
    "smtp_client_rewrite_delivery_status",
    "smtp_server_connection_accepted",
    "smtp_server_data",
    "smtp_server_ehlo",
    "smtp_server_get_dynamic_parameters",
    "smtp_server_mail_from",
    "smtp_server_message_deferred_inject",
    "smtp_server_rcpt_to",
    "smtp_server_rewrite_response",
    "smtp_server_split_transaction",
    "spool_message_enumerated",
    "throttle_insert_ready_queue",
    "tsa_init",
    "tsa_load_shaping_data",
    "validate_config",
    "xfer_message_received",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_event_stands_at_its_number_and_is_found_by_its_name() {
        for (number, event) in Event::ALL.into_iter().enumerate() {
            assert_eq!(event as usize, number);
            assert_eq!(Event::find(event.name()).unwrap(), event);
        }
    }

    #[test]
    fn what_is_not_served_is_told_from_what_does_not_exist() {
        let known = "pre_init, init, smtp_server_message_received, get_queue_config, get_egress_path_config, get_egress_pool, get_egress_source, smtp_server_auth_plain, smtp_server_auth_scram, get_listener_domain";
        let error = Event::find("smtp_server_ehlo").unwrap_err();
        assert_eq!(
            error,
            format!("event 'smtp_server_ehlo' is not available in this version; available are: {known}")
        );
        let error = Event::find("smtp_server_massage").unwrap_err();
        assert_eq!(error, format!("there is no event 'smtp_server_massage'; available are: {known}"));
    }
}
