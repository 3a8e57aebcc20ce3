"""Imports as of a large application, to measure a pool's memory: much of the standard library."""

from __future__ import annotations

import asyncio
import decimal
import email.message
import http.server
import sqlite3
import unittest.mock
import xml.dom.minidom

#: So that each import is used.
MODULES = (asyncio, decimal, email, http, sqlite3, unittest, xml)

#: Some data in memory.
TABLE = {str(number): [number] * 10 for number in range(20_000)}
