# ruff: noqa
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("web", "0001_initial")]

    operations = [
        migrations.AddField(model_name="result", name="expected_gain", field=models.FloatField(null=True))
    ]
