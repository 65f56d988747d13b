"""The real process with the real voice: what comes out can be heard, and how it ends is clean or at least visible."""

import asyncio
import io
import os
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import av
import numpy as np
import pytest

from integration.synth.harness import WITHIN_S, House, Service, open_house, request, synth_settings
from odea_contracts import synth
from odea_contracts.synth import AudioFormat
from odea_local.ports import find_free
from odea_runtime.bus import BusError, NoRespondersError
from odea_runtime.streams import StreamBrokenError
from odea_synth.settings import SynthSettings
from support.databases import Databases
from support.waiting import until
