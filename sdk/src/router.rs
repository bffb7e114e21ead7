//! What a router may decide. Plain data; whether it is acceptable is for the host to say.

/// What to do with a request, and which of its headers to change before it is forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// Where the request goes.
    pub action: Action,
    /// Request headers to set before forwarding, replacing any of that name. At most 32; hop-by-hop, framing and
    /// `Host` headers are refused.
    pub set_headers: Vec<(String, String)>,
    /// Request headers to remove before forwarding, before `set_headers` are set. At most 32.
    pub remove_headers: Vec<String>,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Action {
    /// No opinion: the route's own action stands.
    #[default]
    Pass,
    /// Forward to the cluster of this name, which must be configured.
    Cluster(String),
    /// Answer at once.
    Respond {
        /// 200 to 599.
        status: u16,
        /// Response headers; hop-by-hop and framing ones are refused.
        headers: Vec<(String, String)>,
        /// At most 64 KiB.
        body: String,
    },
    /// Redirect at once.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// The value of `Location`.
        location: String,
    },
}

impl Decision {
    /// No opinion: the route's own action stands.
    pub fn pass() -> Self {
        Self::default()
    }

    /// Forward to the cluster of this name, which must be configured.
    pub fn cluster(name: impl Into<String>) -> Self {
        Action::Cluster(name.into()).into()
    }

    /// Answer at once, as `text/plain`. `status` is 200 to 599, the body at most 64 KiB.
    pub fn respond(status: u16, body: impl Into<String>) -> Self {
        let headers = vec![("content-type".to_owned(), "text/plain; charset=utf-8".to_owned())];
        Action::Respond { status, headers, body: body.into() }.into()
    }

    /// Redirect at once. `status` is 301, 302, 303, 307 or 308.
    pub fn redirect(status: u16, location: impl Into<String>) -> Self {
        Action::Redirect { status, location: location.into() }.into()
    }

    /// Sets a request header before the request is forwarded.
    #[must_use]
    pub fn set_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.set_headers.push((name.into(), value.into()));
        self
    }

    /// Removes a request header before the request is forwarded.
    #[must_use]
    pub fn remove_header(mut self, name: impl Into<String>) -> Self {
        self.remove_headers.push(name.into());
        self
    }
}

impl From<Action> for Decision {
    fn from(action: Action) -> Self {
        Decision { action, ..Self::default() }
    }
}
