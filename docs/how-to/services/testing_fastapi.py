"""A test of the service: `TestClient` runs the lifespan while it is entered."""

from fastapi.testclient import TestClient
from fastapi_service import app


def test_ask():
    with TestClient(app) as client:
        response = client.get(
            "/ask", params={"question": "How many days of holiday do I have?", "k": 1}
        )
        assert response.status_code == 200
        assert response.json()[0]["document"] == "holidays.md"
