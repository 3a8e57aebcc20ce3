"""A failure backend that sends mail."""

from __future__ import annotations

import smtplib
from email.message import EmailMessage, Message
from typing import TYPE_CHECKING, Any

from pyres import json_parser
from pyres import payload as payloads
from pyres.failure.base import BaseBackend, exception_name, readable

if TYPE_CHECKING:
    from pyres.client import ResQ


class MailBackend(BaseBackend):
    """Sends a mail for each failure; subclass it and set the attributes.

    A mail is not a record: put this class after RedisBackend in a MultipleBackend, so that without
    the mail host only the mail is lost. `subject` may contain {queue}, {worker} and {exception}.
    """

    subject = "[Pyres Failure] on {queue}"
    recipients: list[str] = []
    from_user: str | None = None
    smtp_host: str | None = None
    smtp_port = 25
    smtp_tls = False
    smtp_user: str | None = None
    smtp_password: str | None = None
    #: Seconds to wait for an answer of the mail host.
    smtp_timeout: float = 10

    def save(self, resq: ResQ | None = None) -> None:
        """Send the mail, if a host, a sender and a recipient are set. Raises OSError or
        smtplib.SMTPException.
        """
        if not self.recipients or not self.from_user or not self.smtp_host:
            return
        message = self.create_message()
        for header, text in self._headers().items():
            # pyres 1.5 set them here, so an overridden create_message() returns a mail without.
            if header not in message:
                message[header] = text
        self.send_message(message)

    def _headers(self) -> dict[str, str]:
        return {
            "Subject": self.format_subject(),
            "From": str(self.from_user),
            "To": ", ".join(self.recipients),
        }

    def format_subject(self) -> str:
        """The subject with its tokens replaced, on one line."""
        tokens = {
            "queue": self._queue,
            "worker": "" if self._worker is None else str(self._worker),
            "exception": exception_name(self.exception),
        }
        subject = self.subject
        for token, value in tokens.items():
            subject = subject.replace(f"{{{token}}}", value)
        return readable(" ".join(subject.split()))

    def create_message(self) -> Message:
        """The mail: what failed, with which arguments, and the backtrace. An override may return
        any type of `email.mime`; save() adds the Subject, From and To that it lacks.
        """
        message = EmailMessage()
        for header, text in self._headers().items():
            message[header] = text
        message.set_content(self._body())
        return message

    def _body(self) -> str:
        payload: Any = payloads.recordable(self._payload, None)
        lines = [
            f"Queue: {self._queue}",
            f"Worker: {self._worker}",
            f"Job: {json_parser.dumps(payload)}",
            "",
            *self._backtrace(),
            self._parse_message(self.exception),
        ]
        return readable("\n".join(lines)) + "\n"

    def send_message(self, message: Message) -> None:
        """Send the mail to the SMTP host."""
        assert self.smtp_host is not None
        with smtplib.SMTP(self.smtp_host, self.smtp_port, timeout=self.smtp_timeout) as smtp:
            if self.smtp_tls:
                smtp.starttls()
            if self.smtp_user:
                smtp.login(self.smtp_user, self.smtp_password or "")
            smtp.send_message(message)
