"""The one schema of the server's database. Each feature defines its tables beside the code that uses them; they
register here, and a migration makes them."""

from sqlalchemy import MetaData

metadata = MetaData()
