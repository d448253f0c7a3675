"""The experiment record after training: pack it, carry it, repair it at its new place, open its dashboard."""
