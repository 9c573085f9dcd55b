"""HTTP for completions: what is accepted is `dialects`, what is done is `services`.

answering     the one way that every completion of every dialect goes
completions   a route for each dialect's completions
explaining    one completion taken apart
about         what clients ask before: models, health, limits
"""

from fastapi import APIRouter

from homespun_server.routes import about, completions, explaining

router = APIRouter()
router.include_router(about.router)
router.include_router(completions.router)
router.include_router(explaining.router)
