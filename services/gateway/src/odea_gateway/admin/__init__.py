"""The admin API: tenants, keys, plans, accounts, usage and the audit over HTTP, for keys with the scope `admin`.

Thin on purpose: each operation is one message on the bus, and its answer is that message's reply. Whoever has another
key reads "not found" everywhere, so that nothing can be learned here by trying.
"""

from odea_gateway.admin.accounts import AccountController
from odea_gateway.admin.keys import KeyController
from odea_gateway.admin.plans import PlanController
from odea_gateway.admin.reading import ReadingController
from odea_gateway.admin.tenants import TenantController

ADMIN_HANDLERS = (TenantController, KeyController, PlanController, AccountController, ReadingController)
