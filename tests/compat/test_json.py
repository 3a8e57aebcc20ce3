"""pyres.json_parser and pyres.exceptions."""

from __future__ import annotations

import datetime
import json
import unittest

from pyres import exceptions, json_parser
from pyres.json_parser import CustomJSONDecoder, CustomJSONEncoder

MOMENT = datetime.datetime(2030, 6, 1, 12, 0, 5)


class JSONTests(unittest.TestCase):
    def test_a_date_is_encoded_as_in_1_5_and_decoded_again(self):
        self.assertEqual(json_parser.DATE_FORMAT, "%Y-%m-%dT%H:%M:%S")
        self.assertEqual(json_parser.DATE_PREFIX, "@D:")

        text = json_parser.dumps({"args": [MOMENT]})

        self.assertEqual(text, '{"args":["@D:2030-06-01T12:00:05"]}')
        self.assertEqual(json_parser.loads(text), {"args": [MOMENT]})

    def test_dates_survive_at_any_depth(self):
        values = [MOMENT, {"a": [{"b": MOMENT}]}]

        self.assertEqual(json_parser.loads(json_parser.dumps(values)), values)

    def test_a_date_keeps_microseconds_and_zone(self):
        zone = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
        for moment in (MOMENT.replace(microsecond=123), MOMENT.replace(tzinfo=zone)):
            back = json_parser.loads(json_parser.dumps([moment]))[0]
            self.assertEqual((back, back.tzinfo), (moment, moment.tzinfo))

    def test_a_string_that_looks_like_a_date_stays_a_string(self):
        for text in ("@D:2030-06-01T12:00:05", "@D:no date", "@D:", "2030-06-01T12:00:05"):
            self.assertEqual(json_parser.loads(json_parser.dumps([text])), [text])

    def test_bytes_are_read_too(self):
        self.assertEqual(json_parser.loads('{"a":"é"}'.encode()), {"a": "é"})

    def test_the_classes_are_encoder_and_decoder_of_json(self):
        text = json.dumps({"a": [MOMENT]}, cls=CustomJSONEncoder)

        self.assertEqual(json.loads(text, cls=CustomJSONDecoder), {"a": [MOMENT]})


class ExceptionTests(unittest.TestCase):
    def test_their_bases_are_those_of_1_5(self):
        self.assertTrue(issubclass(exceptions.NoQueueError, Exception))
        self.assertTrue(issubclass(exceptions.JobError, RuntimeError))
        self.assertTrue(issubclass(exceptions.TimeoutError, exceptions.JobError))
        self.assertTrue(issubclass(exceptions.CrashError, exceptions.JobError))

    def test_they_can_be_raised_without_a_message(self):
        self.assertTrue(str(exceptions.NoQueueError()))
        self.assertEqual(str(exceptions.CrashError("a word")), "a word")
