//! Containers and execs.

use crate::api::container::{
    Change, ContainerSummary, CreateRequest, CreateResponse, PruneResponse, TopResponse, UpdateResponse,
    WaitResponse,
};
use crate::api::exec::{self, ExecInspect, IdResponse};
use crate::api::host_config::UpdateRequest;
use crate::api::inspect::ContainerInspect;
use crate::api::model::filter::Filters;
use crate::api::{Method, filters};
use crate::{Body, Client, Error, Hijacked, Request, segment};

/// What of a container's log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogOptions {
    /// Standard output.
    pub stdout: bool,
    /// Error output.
    pub stderr: bool,
    /// Also what comes from now on.
    pub follow: bool,
    /// A time before each line.
    pub timestamps: bool,
    /// Seconds since 1970 with a fraction, or as Docker's client sends them; empty is the beginning.
    pub since: String,
    /// As `since`; empty is now.
    pub until: String,
    /// The last so many lines; empty or `all` is all.
    pub tail: String,
}

/// What to attach to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AttachOptions {
    /// Input.
    pub stdin: bool,
    /// Output.
    pub stdout: bool,
    /// Error output.
    pub stderr: bool,
    /// What was written before, first.
    pub logs: bool,
    /// `ctrl-p,ctrl-q`; empty is the daemon's default.
    pub detach_keys: String,
}

/// How to remove a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemoveOptions {
    /// Kill it first.
    pub force: bool,
    /// Its anonymous volumes too.
    pub volumes: bool,
}

impl Client {
    fn container(&self, method: Method, id: &str, rest: &str) -> Request<'_> {
        self.request(method, format!("/containers/{}{rest}", segment(id)))
    }

    /// `POST /containers/create`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_create(
        &self,
        name: &str,
        platform: &str,
        request: &CreateRequest,
    ) -> Result<CreateResponse, Error> {
        let call = self.request(Method::Post, "/containers/create").optional("name", name);
        call.optional("platform", platform).json(request).send()?.json()
    }

    /// `GET /containers/json`. `limit` 0 is no limit.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_list(
        &self,
        all: bool,
        size: bool,
        limit: u32,
        narrowed: &Filters,
    ) -> Result<Vec<ContainerSummary>, Error> {
        let limit = if limit == 0 { String::new() } else { limit.to_string() };
        let request = self.request(Method::Get, "/containers/json").flag("all", all).flag("size", size);
        request.optional("limit", &limit).optional("filters", &filters::encode(narrowed)).send()?.json()
    }

    /// `GET /containers/{id}/json`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_inspect(&self, id: &str) -> Result<ContainerInspect, Error> {
        self.container(Method::Get, id, "/json").send()?.json()
    }

    /// The same as the daemon wrote it.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_inspect_raw(&self, id: &str, size: bool) -> Result<serde_json::Value, Error> {
        self.container(Method::Get, id, "/json").flag("size", size).send()?.json()
    }

    /// `POST /containers/{id}/start`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_start(&self, id: &str, detach_keys: &str) -> Result<(), Error> {
        self.container(Method::Post, id, "/start").optional("detachKeys", detach_keys).send().map(drop)
    }

    /// `POST /containers/{id}/stop`. `timeout_s` of -1 waits for ever; `None` is the container's.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_stop(&self, id: &str, signal: &str, timeout_s: Option<i64>) -> Result<(), Error> {
        let timeout = timeout_s.map_or(String::new(), |seconds| seconds.to_string());
        self.container(Method::Post, id, "/stop")
            .optional("signal", signal)
            .optional("t", &timeout)
            .send()
            .map(drop)
    }

    /// `POST /containers/{id}/restart`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_restart(&self, id: &str, signal: &str, timeout_s: Option<i64>) -> Result<(), Error> {
        let timeout = timeout_s.map_or(String::new(), |seconds| seconds.to_string());
        self.container(Method::Post, id, "/restart")
            .optional("signal", signal)
            .optional("t", &timeout)
            .send()
            .map(drop)
    }

    /// `POST /containers/{id}/kill`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_kill(&self, id: &str, signal: &str) -> Result<(), Error> {
        self.container(Method::Post, id, "/kill").optional("signal", signal).send().map(drop)
    }

    /// `POST /containers/{id}/pause`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_pause(&self, id: &str) -> Result<(), Error> {
        self.container(Method::Post, id, "/pause").send().map(drop)
    }

    /// `POST /containers/{id}/unpause`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_unpause(&self, id: &str) -> Result<(), Error> {
        self.container(Method::Post, id, "/unpause").send().map(drop)
    }

    /// `POST /containers/{id}/rename`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_rename(&self, id: &str, name: &str) -> Result<(), Error> {
        self.container(Method::Post, id, "/rename").param("name", name).send().map(drop)
    }

    /// `POST /containers/{id}/resize`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_resize(&self, id: &str, rows: u16, columns: u16) -> Result<(), Error> {
        let request = self.container(Method::Post, id, "/resize").param("h", rows.to_string());
        request.param("w", columns.to_string()).send().map(drop)
    }

    /// `POST /containers/{id}/update`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_update(&self, id: &str, request: &UpdateRequest) -> Result<UpdateResponse, Error> {
        self.container(Method::Post, id, "/update").json(request).send()?.json()
    }

    /// `DELETE /containers/{id}`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_remove(&self, id: &str, options: RemoveOptions) -> Result<(), Error> {
        let request = self.container(Method::Delete, id, "").flag("force", options.force);
        request.flag("v", options.volumes).send().map(drop)
    }

    /// `POST /containers/{id}/wait`: returns once the daemon waits, so that nothing is missed; the body
    /// then holds [`WaitResponse`]. `condition` is empty, `not-running`, `next-exit` or `removed`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_wait(&self, id: &str, condition: &str) -> Result<Body<'_>, Error> {
        Ok(self.container(Method::Post, id, "/wait").optional("condition", condition).send()?.body)
    }

    /// The same, to the end.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_wait_exit(&self, id: &str, condition: &str) -> Result<WaitResponse, Error> {
        self.container_wait(id, condition)?.json()
    }

    /// `POST /containers/{id}/attach`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_attach(&self, id: &str, options: &AttachOptions) -> Result<Hijacked, Error> {
        let request = self.container(Method::Post, id, "/attach").param("stream", "1");
        let request = request.flag("stdin", options.stdin).flag("stdout", options.stdout);
        let request = request.flag("stderr", options.stderr).flag("logs", options.logs);
        request.optional("detachKeys", &options.detach_keys).header("Content-Type", "text/plain").hijack()
    }

    /// `GET /containers/{id}/logs`: framed unless the container has a terminal.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_logs(&self, id: &str, options: &LogOptions) -> Result<Body<'_>, Error> {
        let request = self.container(Method::Get, id, "/logs").flag("stdout", options.stdout);
        let request = request.flag("stderr", options.stderr).flag("follow", options.follow);
        let request = request.flag("timestamps", options.timestamps).optional("since", &options.since);
        Ok(request.optional("until", &options.until).optional("tail", &options.tail).send()?.body)
    }

    /// `GET /containers/{id}/stats`: a value each second, or one.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_stats(
        &self,
        id: &str,
        stream: bool,
    ) -> Result<crate::Lines<'_, serde_json::Value>, Error> {
        let request =
            self.container(Method::Get, id, "/stats").param("stream", if stream { "1" } else { "0" });
        Ok(request.send()?.body.lines())
    }

    /// `GET /containers/{id}/top`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_top(&self, id: &str, ps_args: &str) -> Result<TopResponse, Error> {
        self.container(Method::Get, id, "/top").optional("ps_args", ps_args).send()?.json()
    }

    /// `GET /containers/{id}/changes`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_changes(&self, id: &str) -> Result<Option<Vec<Change>>, Error> {
        self.container(Method::Get, id, "/changes").send()?.json()
    }

    /// `POST /containers/prune`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn container_prune(&self, narrowed: &Filters) -> Result<PruneResponse, Error> {
        self.request(Method::Post, "/containers/prune")
            .optional("filters", &filters::encode(narrowed))
            .send()?
            .json()
    }

    /// `POST /containers/{id}/exec`: returns the exec's id.
    ///
    /// # Errors
    /// [`Error`].
    pub fn exec_create(&self, id: &str, request: &exec::CreateRequest) -> Result<String, Error> {
        Ok(self.container(Method::Post, id, "/exec").json(request).send()?.json::<IdResponse>()?.id)
    }

    /// `POST /exec/{id}/start`, attached.
    ///
    /// # Errors
    /// [`Error`].
    pub fn exec_attach(&self, exec: &str, request: &exec::StartRequest) -> Result<Hijacked, Error> {
        self.request(Method::Post, format!("/exec/{}/start", segment(exec))).json(request).hijack()
    }

    /// `POST /exec/{id}/start` with `Detach`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn exec_start_detached(&self, exec: &str, tty: bool) -> Result<(), Error> {
        let request = exec::StartRequest { detach: true, tty, console_size: None };
        self.request(Method::Post, format!("/exec/{}/start", segment(exec))).json(&request).send().map(drop)
    }

    /// `POST /exec/{id}/resize`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn exec_resize(&self, exec: &str, rows: u16, columns: u16) -> Result<(), Error> {
        let request = self
            .request(Method::Post, format!("/exec/{}/resize", segment(exec)))
            .param("h", rows.to_string());
        request.param("w", columns.to_string()).send().map(drop)
    }

    /// `GET /exec/{id}/json`.
    ///
    /// # Errors
    /// [`Error`].
    pub fn exec_inspect(&self, exec: &str) -> Result<ExecInspect, Error> {
        self.request(Method::Get, format!("/exec/{}/json", segment(exec))).send()?.json()
    }
}
